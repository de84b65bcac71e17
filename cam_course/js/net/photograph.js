// A photograph and a thousand classes: the maps of 7x7 and of 14x14 cells at once, and a collage in which one asks for the cat.
import { button, slider } from "../lib/controls.js";
import { html, uniqueId } from "../lib/dom.js";
import { asBytes, asText } from "./files.js";
import { answers, Lab, percent, views } from "./lab.js";
import { View } from "./view.js";

const STAGES = ["head", "stage4"], QUARTERS = ["upper left", "upper right", "lower left", "lower right"];

/** Four squares as one, each at half its size. */
export function collage(four, side) {
  const half = side / 2, cells = side * side, out = new Float32Array(3 * cells);
  four.forEach((planes, q) => {
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < half; y++)
        for (let x = 0; x < half; x++) {
          const at = c * cells + 2 * y * side + 2 * x, mean = (planes[at] + planes[at + 1] + planes[at + side] + planes[at + side + 1]) / 4;
          out[c * cells + ((q >> 1) * half + y) * side + (q % 2) * half + x] = mean;
        }
  });
  return out;
}

function render(context) {
  const lab = new Lab(context, "A photograph and a thousand classes"), names = lab.get("files");
  const samples = Object.entries(JSON.parse(asText(lab.files[names.at(-1)]))).map(([title, text]) => ({ title, blob: new Blob([asBytes(text)], { type: "image/jpeg" }) }));
  let planes, title, answer, parts = [], rate = 0;

  return lab.open(({ classes }) => {
    const shown = STAGES.map((stage) => new View(lab, `The map of ${stage}`, lab.side)), bars = answers(lab, "target", 5);
    const target = () => (lab.get("target") < 0 ? null : lab.get("target"));
    const look = () => planes && !lab.camera && lab.look(() => ["look", { pixels: planes, target: target(), stages: STAGES }], (got) => { answer = got; });
    const use = (next, name, of = []) => { planes = next; title = name; parts = of; rate = 0; if (target() === null) look(); else lab.set("target", -1); };
    const list = uniqueId(), numbers = new Map();
    classes.forEach((text, k) => text.split(",").forEach((n) => { if (!numbers.has(n.trim().toLowerCase())) numbers.set(n.trim().toLowerCase(), k); }));
    const search = html("input", { type: "text", list, class: "cc-search", onchange: () => {
      const k = numbers.get(search.value.trim().toLowerCase());
      if (k === undefined) return lab.tell(`No class is called “${search.value}”. Type a few letters and choose from the list.`);
      lab.tell("");
      lab.set("target", k);
    } });
    const options = html("datalist", { id: list }, ...classes.map((text) => html("option", { value: text.split(",")[0] })));

    async function together() {
      lab.stopCamera();
      try {
        const four = [];
        for (const { title: what, blob } of samples.slice(0, 4)) {
          const { pixels } = await lab.engine.ask("square", { source: blob });
          const { target: k } = await lab.engine.ask("look", { pixels, target: null, stages: [] });
          four.push({ what, pixels, k });
        }
        use(collage(four.map((f) => f.pixels), lab.side), "the collage", four);
        lab.set("target", four[0].k);
      } catch (error) { lab.tell(error.message); }
    }

    const ask = html("div", { class: "cc-row" });
    lab.sources(use, { samples, camera: { ask: (source) => ({ source, target: target(), stages: STAGES }),
      heard: (got, perSecond) => { answer = got; planes = got.pixels; title = "the camera"; parts = []; rate = perSecond; } } });
    lab.row(button("Collage of four", together), html("label", { class: "cc-select" }, html("span", {}, "any class"), search), options,
      button("Map of the surest answer", () => lab.set("target", -1)));
    lab.add(ask, views(...shown.map((v) => v.node)), bars.node);
    lab.row(slider(lab, "opacity", "opacity", { min: 0, max: 1, step: 0.05, format: (v) => v.toFixed(2) }));
    lab.on("target", look);
    let asked = null;

    lab.draw(["opacity"], () => {
      if (asked !== parts) {
        asked = parts;
        ask.replaceChildren(...parts.map(({ what, k }) => button(`Where is ${what}?`, () => lab.set("target", k))));
      }
      if (!answer) return;
      const { chances, target: k, maps } = answer, best = chances.indexOf(Math.max(...chances)), opacity = lab.get("opacity"), told = [];
      maps.forEach((seen, i) => {
        const at = seen.map.indexOf(seen.peak), mark = seen.peak > 0 ? [((at % seen.w) + 0.5) / seen.w, (Math.floor(at / seen.w) + 0.5) / seen.h] : null;
        shown[i].paint(planes, { seen, opacity, mark: parts.length ? mark : null });
        const where = mark && parts.length ? `, peak in the ${QUARTERS[2 * (mark[1] > 0.5) + (mark[0] > 0.5)]} quarter` : "";
        told.push(`${seen.h}x${seen.w}: ${seen.peak > 0 ? `highest evidence ${seen.peak.toPrecision(2)}${where}` : "no positive evidence"}`);
        shown[i].caption.textContent = told[i];
      });
      bars.show(chances, k);
      const text = `${title}: ${lab.name(best)}, ${percent(chances[best])}. Maps for ${lab.name(k)}; ${told.join("; ")}.`;
      shown.forEach((view) => view.describe(`The picture under its map. ${text}`));
      lab.say(rate ? `${text} ${rate.toFixed(0)} maps a second.` : text);
    });
    lab.takeOne(samples[0].blob, samples[0].title);
  });
}

export default { render };
