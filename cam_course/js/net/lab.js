// What the figures with a network share: the worker, the picture and where it comes from, the answers as bars.
import { Figure } from "../lib/figure.js";
import { button } from "../lib/controls.js";
import { html, uniqueId } from "../lib/dom.js";
import { Engine } from "./client.js";
import { asBytes } from "./files.js";

const QUIET = ["AbortError"];
let current;                                               // the figure that a pasted picture goes to

export class Lab extends Figure {
  constructor(context, label) {
    super(context, label);
    const names = this.get("files");
    this.files = context.files;
    this.colors = asBytes(this.get("colors"));
    this.engine = new Engine(this.files[names[1]], this.files[names[2]]);
    this.trouble = html("p", { class: "cc-note cc-trouble", role: "alert" });
    this.undo.push(() => this.engine.close(), () => this.stopCamera(), () => { this.over = true; });
    const mine = () => { current = this; };
    this.root.addEventListener("pointerdown", mine);
    this.root.addEventListener("focusin", mine);
  }

  /** Calls build() when the network is open; until then the figure says so. */
  open(build) {
    this.add(this.readout, this.trouble);
    this.say("The network opens.");
    this.engine.ready.then((info) => {
      if (this.over) return;
      this.info = info;
      [, this.side] = info.input;
      build(info);
      this.add(this.trouble);
    }).catch((error) => this.tell(error.message));
    return () => this.close();
  }

  /** One clear line about what went wrong; the figure goes on. */
  tell(text) { this.trouble.textContent = text; }

  name(k) { return this.info.classes[k].split(",")[0]; }

  /** Asks for what is seen; while an answer is on its way only the newest question waits. */
  async look(question, heard) {
    this.question = { question, heard };
    if (this.busy) return;
    this.busy = true;
    while (this.question && !this.over) {
      const { question: asked, heard: then } = this.question;
      this.question = null;
      try { then(await this.engine.ask(...asked())); } catch (error) { this.tell(error.message); }
      this.invalidate();
    }
    this.busy = false;
  }

  // ---- where pictures come from -----------------------------------------------------------------------------------
  /** Buttons and samples. `use(planes, title)` gets each new picture. */
  sources(use, { samples = this.samples(), camera } = {}) {
    this.use = (planes, title) => { this.tell(""); use(planes, title); };
    const picker = html("input", { type: "file", accept: "image/*", class: "cc-hidden", tabindex: -1, "aria-label": "a picture of yours", "aria-hidden": "true",
      onchange: () => { this.take(picker.files); picker.value = ""; } });
    const row = [button("Choose a picture", () => picker.click()), picker];
    if (camera) row.push(this.cameraButton(camera));
    if (samples.length > 1) row.push(this.gallery(samples));
    this.row(...row);
    this.add(html("p", { class: "cc-note" }, "Or drop one here, or paste it. It stays in this page: nothing is sent anywhere."));
    this.root.addEventListener("dragover", (event) => { event.preventDefault(); this.root.classList.add("cc-over"); });
    this.root.addEventListener("dragleave", () => this.root.classList.remove("cc-over"));
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.root.classList.remove("cc-over");
      this.take(event.dataTransfer.files);
    });
    const paste = (event) => {
      if (current !== this || !event.clipboardData || /^(INPUT|TEXTAREA)$/.test(event.target.tagName ?? "") && event.target.type === "text") return;
      event.preventDefault();
      this.take(event.clipboardData.files);
    };
    document.addEventListener("paste", paste);
    this.undo.push(() => document.removeEventListener("paste", paste));
  }

  /** The pictures that came with the figure: [{ title, planes }]. */
  samples() {
    const given = this.get("pixels"), all = given.byteLength ? asBytes(given) : asBytes(this.files["samples.rgb"]), cells = this.side * this.side, titles = this.get("titles");
    return titles.map((title, k) => ({ title, planes: Float32Array.from({ length: 3 * cells },
      (_, i) => all[3 * cells * k + 3 * (i % cells) + Math.floor(i / cells)] / 255) }));
  }

  gallery(samples) {
    const draw = ({ title }, k) => html("option", { value: k }, title);
    const box = html("select", { "aria-label": "a picture that comes with the figure" }, html("option", { value: "", selected: true }, "samples"), ...samples.map(draw));
    box.addEventListener("change", async () => {
      if (box.value === "") return;
      const { title, planes, blob } = samples[+box.value];
      this.stopCamera();
      if (blob) await this.takeOne(blob, title);
      else this.use(planes.slice(), title);
    });
    return html("label", { class: "cc-select" }, box);
  }

  async take(list) {
    this.stopCamera();
    if (!list?.length) return this.tell("There was no picture in it. Choose a file, or copy a picture, not its address.");
    await this.takeOne(list[0], list[0].name);
  }

  async takeOne(blob, title) {
    try {
      const { pixels } = await this.engine.ask("square", { source: blob });
      this.use(pixels, title);
    } catch (error) {
      if (QUIET.includes(error.kind)) return;
      this.tell(error.kind ? `${title || "This"} is no picture that this browser can read. Try a JPEG or a PNG.` : error.message);
    }
  }

  // ---- the camera --------------------------------------------------------------------------------------------------
  cameraButton(watch) {
    this.cameraSwitch = button("Camera", () => (this.camera ? this.stopCamera() : this.startCamera(watch)));
    return this.cameraSwitch;
  }

  /** Frame after frame goes through the network; `watch` is { ask(source) -> arguments of ask, heard(answer, maps a second) }. */
  async startCamera({ ask, heard }) {
    this.tell("");
    if (!navigator.mediaDevices?.getUserMedia) return this.tell("This page has no camera. Choose a picture instead.");
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 320 }, facingMode: "environment" } });
      if (this.over) return stream.getTracks().forEach((t) => t.stop());
      this.camera = { stream, video: Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true }) };
      await this.camera.video.play();
    } catch (error) {
      this.stopCamera();
      const why = { NotAllowedError: "The camera was not allowed.", NotFoundError: "There is no camera.", NotReadableError: "The camera is busy." };
      return this.tell(`${why[error.name] ?? "The camera does not start."} Choose a picture instead.`);
    }
    this.cameraSwitch.textContent = "Stop the camera";
    const times = [];
    while (this.camera) {
      try {
        const source = await createImageBitmap(this.camera.video), answer = await this.engine.ask("watch", ask(source), { moved: [source] });
        times.push(performance.now());
        if (times.length > 20) times.shift();
        if (this.camera) heard(answer, times.length > 2 ? ((times.length - 1) * 1000) / (times.at(-1) - times[0]) : 0);
      } catch (error) { this.stopCamera(); this.tell(error.message); }
      this.invalidate();
      await new Promise((go) => requestAnimationFrame(go));
    }
  }

  stopCamera() {
    if (!this.camera) return;
    this.camera.stream.getTracks().forEach((track) => track.stop());
    this.camera = null;
    this.cameraSwitch.textContent = "Camera";
  }
}

/** Answers as bars, one to choose: its map is shown. `count` rows; with fewer rows than classes the surest ones stand in them. */
export function answers(fig, trait, count) {
  const name = uniqueId(), whole = count === fig.info.classes.length;
  const rows = Array.from({ length: count }, (_, i) => {
    const radio = html("input", { type: "radio", name, value: i, "data-trait": trait }), text = html("span", {}), share = html("output", {});
    const bar = html("i", { "aria-hidden": "true" });
    const row = { radio, text, share, bar, k: i, node: html("label", { class: "cc-answer" }, radio, bar, text, share) };
    radio.addEventListener("change", () => fig.set(trait, row.k));
    return row;
  });
  const node = html("div", { class: "cc-answers", role: "radiogroup", "aria-label": "answers; choose one to see its map" }, ...rows.map((r) => r.node));
  /** `chances`: of all classes; `chosen`: the one whose map is shown. */
  const show = (chances, chosen) => {
    const order = whole ? rows.map((r) => r.k) : Array.from(chances.keys()).sort((a, b) => chances[b] - chances[a]).slice(0, count);
    if (!whole && !order.includes(chosen)) order[count - 1] = chosen;
    rows.forEach((row, i) => {
      row.k = order[i];
      const part = (100 * chances[row.k]).toFixed(chances[row.k] < 0.1 ? 1 : 0);
      row.text.textContent = fig.name(row.k);
      row.share.textContent = `${part} %`;
      row.bar.style.width = `${100 * chances[row.k]}%`;
      row.radio.checked = row.k === chosen;
    });
  };
  return { node, show };
}

/** Views side by side. */
export const views = (...list) => html("div", { class: "cc-views" }, ...list);

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
