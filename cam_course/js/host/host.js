// Brings anywidget figures to life on a static page: no kernel, no RequireJS, no html-manager, nothing from the network.
// The page carries the widget state that the notebook saved; each figure's own render() is called on a small model that
// keeps its traits. Until then, and without JavaScript, the reader sees the figure's still picture.
(() => {
  "use strict";
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const FILE = 'script[type="application/x-cam-course-file"]';
  const here = document.currentScript?.src;

  // A figure may ask for files. They are in the page itself, or beside this script as scripts: a page from file:// may load those.
  const files = new Map(), arrived = new Map();
  globalThis.camCourseFile = (name, text) => arrived.get(name)?.(text);
  function file(name) {
    if (!files.has(name)) {
      files.set(name, new Promise((done, failed) => {
        const inside = [...document.querySelectorAll(FILE)].find((tag) => tag.dataset.name === name);
        if (inside) return done(inside.dataset.base64 === undefined ? JSON.parse(inside.textContent) : inside.textContent);
        arrived.set(name, done);
        const lost = () => { files.delete(name); failed(new Error(`no file ${name}`)); };
        if (!here) return lost();
        const src = new URL(`nets/${name.replaceAll("/", "-")}.js`, here).href;
        document.head.append(Object.assign(document.createElement("script"), { src, async: true, onerror: lost }));
      }));
    }
    return files.get(name);
  }

  class Model {
    constructor(state) { this.state = state; this.listeners = new Map(); }
    get(name) { return this.state[name]; }
    set(name, value) {
      const changes = Object.entries(typeof name === "object" ? name : { [name]: value });
      let changed = false;
      for (const [k, v] of changes) {
        if (Object.is(this.state[k], v)) continue;
        this.state[k] = v;
        changed = true;
        this.emit("change:" + k, this, v);
      }
      if (changed) this.emit("change", this);
    }
    save_changes() {}                                     // there is no kernel to tell
    send({ ask = [] } = {}) {
      for (const name of ask)
        file(name).then((text) => this.emit("msg:custom", { file: name, text }, []),
          () => this.emit("msg:custom", { file: name, missing: true }, []));
    }
    on(names, f) { for (const n of names.split(" ")) this.listeners.set(n, [...(this.listeners.get(n) || []), f]); }
    off(names, f) {
      if (!names) return this.listeners.clear();
      for (const n of names.split(" ")) this.listeners.set(n, (this.listeners.get(n) || []).filter((g) => f && g !== f));
    }
    emit(name, ...args) { for (const f of this.listeners.get(name) || []) f(...args); }
  }

  // Binary traits are saved as base64; a figure expects DataViews.
  function decode({ state, buffers = [] }) {
    const copy = structuredClone(state);
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), last = path[path.length - 1];
      path.slice(0, -1).reduce((o, k) => o[k], copy)[last] = new DataView(bytes.buffer);
    }
    return copy;
  }

  const modules = new Map(), sheets = new Set();
  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return modules.get(source);
  }
  function addStyle(css) {
    if (!css || sheets.has(css)) return;
    sheets.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  // The still picture is the output just before the view.
  const still = (tag) => {
    const before = (tag.closest(".output") || tag).previousElementSibling || tag.previousElementSibling;
    if (!before) return null;
    return before.matches(".widget-still") ? before : before.querySelector(".widget-still");
  };

  async function mount(tag, models) {
    const model = models[JSON.parse(tag.textContent).model_id];
    if (!model) return;
    addStyle(model.get("_css"));
    const module = await load(model.get("_esm"));
    const widget = typeof module.default === "function" ? await module.default() : module.default ?? module;
    if (!model.ready) { model.ready = true; await widget.initialize?.({ model }); }
    const el = Object.assign(document.createElement("div"), { className: "widget-live" });
    const picture = still(tag), box = picture && picture.getBoundingClientRect();
    if (box && box.height && !widget.asleep) el.style.minHeight = box.height + "px";   // the page does not jump while the figure draws itself
    tag.after(el);
    if (picture && !widget.asleep) picture.hidden = true;
    el.addEventListener("cc-awake", () => { if (picture) picture.hidden = true; });
    try {
      await widget.render({ model, el, experimental: {} });
      el.style.minHeight = "";
    } catch (error) {
      el.remove();
      if (picture) picture.hidden = false;
      throw error;
    }
  }

  function start() {
    const models = {};
    for (const tag of document.querySelectorAll(STATE)) {
      for (const [id, record] of Object.entries(JSON.parse(tag.textContent).state)) {
        if (record.state._esm) models[id] = new Model(decode(record));
      }
    }
    const near = new IntersectionObserver((entries) => {
      for (const e of entries) {
        if (!e.isIntersecting) continue;
        near.unobserve(e.target);
        mount(e.target.viewTag, models).catch((error) => console.error("figure failed", error));
      }
    }, { rootMargin: "2000px" });
    for (const tag of document.querySelectorAll(VIEW)) {
      const spot = still(tag) || tag.parentElement;
      spot.viewTag = tag;
      near.observe(spot);
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
