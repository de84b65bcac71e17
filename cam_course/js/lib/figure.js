// The frame of every moving figure: it redraws when a trait, its width or the theme changes, speaks, and cleans up.
import { html, reducedMotion } from "./dom.js";

export class Figure {
  /** `context` is what anywidget passes to render(); `label` names the figure for screen readers. */
  constructor({ model, el }, label) {
    this.model = model;
    this.parts = [];                                       // plots: told their width before each drawing
    this.undo = [];                                        // what close() takes back
    this.root = html("div", { class: "cc", role: "group", "aria-label": label });
    this.readout = html("p", { class: "cc-readout" });
    this.live = html("p", { class: "cc-hidden", role: "status" });
    // JupyterLab binds the arrow keys and would swallow them.
    this.root.addEventListener("keydown", (e) => e.stopPropagation());
    el.append(this.root);
  }

  get(name) { return this.model.get(name); }

  /** Sets a trait and tells Python, if there is one. */
  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** Calls `f` when the trait changes, until the figure is closed. */
  on(name, f) {
    this.model.on(`change:${name}`, f);
    this.undo.push(() => this.model.off(`change:${name}`, f));
  }

  add(...nodes) {
    this.root.append(...nodes);
    return this;
  }

  /** A row of controls. */
  row(...nodes) { return this.add(html("div", { class: "cc-row" }, ...nodes)); }

  /** One sentence that states what is seen now, with its numbers: under the figure, and spoken when it settles. */
  say(text) {
    if (this.readout.textContent === text) return;
    this.readout.textContent = text;
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => { this.live.textContent = text; }, 700);
  }

  /** Ends the set-up: `draw` runs now and after every change of a trait in `traits`, of the width or of the theme. */
  draw(traits, draw) {
    this.redraw = draw;
    this.add(this.readout, this.live);
    for (const name of traits) this.on(name, () => this.invalidate());
    let width = 0;
    const sizes = new ResizeObserver(() => {
      if (this.root.clientWidth !== width) { width = this.root.clientWidth; this.invalidate(); }
    });
    sizes.observe(this.root);
    const theme = new MutationObserver(() => this.invalidate());
    for (const node of [document.documentElement, document.body])
      theme.observe(node, { attributes: true, attributeFilter: ["class", "data-theme", "theme", "data-jp-theme-light"] });
    this.undo.push(() => sizes.disconnect(), () => theme.disconnect());
    this.paint();
    return () => this.close();                             // anywidget calls it when the figure goes
  }

  /** Asks for one drawing before the next frame, however many changes there are. */
  invalidate() { this.pending ||= requestAnimationFrame(() => this.paint()); }

  paint() {
    this.pending = 0;
    if (!this.root.clientWidth) return;                    // not on the page yet: the ResizeObserver calls again
    for (const part of this.parts) part.begin();
    this.redraw();
    for (const part of this.parts) part.end();
  }

  /** Calls step(k), k = 0, 1, ..., once a frame until it returns false. With reduced motion nothing moves: `still` runs. */
  animate(step, still = () => {}) {
    this.stop();
    if (reducedMotion()) return still();
    let k = 0;
    const tick = () => { this.running = step(k++) === false ? 0 : requestAnimationFrame(tick); };
    this.running = requestAnimationFrame(tick);
  }

  stop() {
    cancelAnimationFrame(this.running);
    this.running = 0;
  }

  /** The value of a CSS variable of the theme, for canvases: color("c1"). */
  color(name) { return getComputedStyle(this.root).getPropertyValue(`--${name}`).trim(); }

  close() {
    this.stop();
    cancelAnimationFrame(this.pending);
    clearTimeout(this.speaking);
    for (const f of this.undo) f();
  }
}
