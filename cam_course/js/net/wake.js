// A figure that sleeps: a button that says what it will fetch. Code and weights come from whoever shows the figure, by one message:
// a Python kernel answers with bytes, a page with the file that lies beside it (a script, so that file:// will do).
import { Figure } from "../lib/figure.js";
import { html } from "../lib/dom.js";
import { asText } from "./files.js";

const PATIENCE = 60_000;

/** The files of these names: { name: text or bytes }. */
function fetchFiles(model, names) {
  return new Promise((done, failed) => {
    const files = {}, late = setTimeout(() => end("it took too long"), PATIENCE);
    function end(reason) {
      clearTimeout(late);
      model.off("msg:custom", hear);
      if (reason) failed(new Error(reason));
      else done(files);
    }
    function hear({ file, text, missing }, buffers = []) {
      if (!names.includes(file)) return;
      if (missing) return end(`${file} could not be read`);
      files[file] = text ?? buffers[0];
      if (Object.keys(files).length === names.length) end();
    }
    model.on("msg:custom", hear);
    model.send({ ask: names });
  });
}

async function load(code) {
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try { return await import(address); } finally { URL.revokeObjectURL(address); }
}

function render(context) {
  const { model, el } = context, names = model.get("files");
  const fig = new Figure(context, model.get("title"));
  const size = `${(model.get("size") / 1e6).toFixed(1)} MB`;
  const button = html("button", { type: "button", class: "cc-button cc-wake", onclick: wake }, `Wake the network (${size})`);
  const promise = "It runs in this page. Your pictures never leave it: the page sends nothing.";
  fig.row(button, html("span", { class: "cc-note" }, promise)).add(fig.readout, fig.live);
  let closed = false, inner = () => fig.close();

  async function wake() {
    button.disabled = true;
    fig.say("Loading.");
    try {
      const files = await fetchFiles(model, names), scene = await load(asText(files[names[0]]));
      if (closed) return;
      fig.close();
      fig.root.remove();
      inner = scene.default.render({ ...context, files: { ...files, [names[1]]: asText(files[names[1]]) } });
      el.querySelector(".cc").tabIndex = -1;
      el.querySelector(".cc").focus({ preventScroll: true });
      el.dispatchEvent(new CustomEvent("cc-awake"));
    } catch (error) {
      button.disabled = false;
      fig.say(`The network could not be loaded: ${error.message}. Try again.`);
    }
  }
  return () => { closed = true; inner(); };
}

/** `asleep`: the still picture stays until the figure says that it is awake. */
export default { asleep: true, render };
