// The page's end of the line to the worker: ask(...) gives a promise. A worker that dies is started anew, and says so.

export const GONE = "The network's thread stopped. It was started again: go on.";
const PATIENCE = 60_000;                                   // ms without a sign of life: a slow phone under load is alive

export class Engine {
  /** `code`: the worker's script; `data`: the network's file, base64 or bytes. */
  constructor(code, data) {
    this.code = code;
    this.data = data;
    this.waiting = new Map();
    this.last = 0;
    this.start();
  }

  start() {
    this.worker = this.open();
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => { event.preventDefault?.(); this.revive(); };
    this.ready = this.ask("open", { data: this.data });
    this.ready.catch(() => {});
  }

  open() {
    try {
      const address = URL.createObjectURL(new Blob([this.code], { type: "text/javascript" }));
      const worker = new Worker(address);
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
      return worker;
    } catch {                                              // a page that allows no worker: the same code in the page itself
      const port = { terminate() {} }, inside = { postMessage: (data) => setTimeout(() => port.onmessage({ data })) };
      new Function("self", this.code)(inside);
      port.postMessage = (data) => setTimeout(() => inside.onmessage({ data }));
      return port;
    }
  }

  /** `args` travel by copy; `parts` is called with what a long answer has so far; `moved` are handed over, not copied. */
  ask(call, args = {}, { parts, moved = [] } = {}) {
    const id = ++this.last;
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed, parts });
      this.watch(id);
      this.worker.postMessage({ id, call, args }, moved);
    });
  }

  watch(id) {
    const asked = this.waiting.get(id);
    clearTimeout(asked.watch);
    asked.watch = setTimeout(() => this.revive(), PATIENCE);
  }

  hear({ id, part, answer, error, kind }) {
    const asked = this.waiting.get(id);
    if (!asked) return;
    if (part) { this.watch(id); return asked.parts?.(part); }
    this.waiting.delete(id);
    clearTimeout(asked.watch);
    if (error) asked.failed(Object.assign(new Error(error), { kind }));
    else asked.done(answer);
  }

  /** After a death: those who wait are told, and a new worker opens the network. */
  revive() {
    const lost = [...this.waiting.values()];
    this.waiting.clear();
    this.worker.terminate();
    if (this.closed) return;
    this.start();
    for (const { failed, watch } of lost) { clearTimeout(watch); failed(new Error(GONE)); }
  }

  close() {
    this.closed = true;
    this.worker.terminate();
    for (const { watch } of this.waiting.values()) clearTimeout(watch);
  }
}
