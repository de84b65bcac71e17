// The reader's own picture: answers as bars, the map of any class at any stage; a file, the clipboard, a pen, the camera.
import { button, choice, slider, toggle } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { answers, Lab, percent, views } from "./lab.js";
import { spot, View } from "./view.js";

function render(context) {
  const lab = new Lab(context, "Your picture, and where the network looked");
  let planes, title, answer, rate = 0;

  return lab.open(({ stages, classes }) => {
    const view = new View(lab, "The picture under its map", lab.side), bars = answers(lab, "target", classes.length);
    const target = () => (lab.get("target") < 0 ? null : lab.get("target")), seen = () => [stages[lab.get("stage")]];
    const look = () => planes && !lab.camera && lab.look(() => ["look", { pixels: planes, target: target(), stages: seen() }], (got) => { answer = got; });
    const use = (next, name) => { planes = next; title = name; rate = 0; look(); };

    const pen = html("input", { type: "color", value: "#e03030", "aria-label": "color of the pen" });
    const color = () => [1, 3, 5].map((i) => parseInt(pen.value.slice(i, i + 2), 16) / 255);
    view.brush({ label: "Draw on the picture.", on: () => lab.get("drawing"), reach: () => 1.5,
      dab: (x, y) => { lab.stopCamera(); spot(planes, lab.side, x, y, 1.5, color()); title = "your drawing"; look(); } });

    lab.sources(use, { camera: {
      ask: (source) => ({ source, target: target(), stages: seen() }),
      heard: (got, perSecond) => { answer = got; planes = got.pixels; title = "the camera"; rate = perSecond; } } });
    lab.row(toggle(lab, "drawing", "draw"), pen, button("Blank sheet", () => { lab.stopCamera(); lab.set("drawing", true); use(new Float32Array(3 * lab.side ** 2).fill(1), "your drawing"); }),
      button("Map of the surest answer", () => lab.set("target", -1)));
    lab.add(views(view.node, bars.node));
    lab.row(choice(lab, "stage", "stage whose maps are shown", stages.map((s, i) => [i, s])));
    lab.row(slider(lab, "opacity", "opacity", { min: 0, max: 1, step: 0.05, format: (v) => v.toFixed(2) }));
    for (const trait of ["target", "stage"]) lab.on(trait, look);
    lab.on("drawing", () => view.allow());

    lab.draw(["opacity"], () => {
      if (!answer) return;
      const [{ stage, h, w, peak, map }] = answer.maps, { chances, target: k } = answer, best = chances.indexOf(Math.max(...chances));
      view.paint(planes, { seen: { map, h, w, peak }, opacity: lab.get("opacity") });
      bars.show(chances, k);
      const evidence = peak > 0 ? `highest evidence ${peak.toPrecision(2)}` : "no positive evidence anywhere, so nothing is colored";
      const text = `${title}: ${lab.name(best)}, ${percent(chances[best])}. ${stage}, ${h}x${w}, for ${lab.name(k)}: ${evidence}.`;
      view.describe(`The picture under its map. ${text}`);
      lab.say(rate ? `${text} ${rate.toFixed(0)} maps a second.` : text);
    });
    const [first] = lab.samples();
    use(first.planes, first.title);
  });
}

export default { render };
