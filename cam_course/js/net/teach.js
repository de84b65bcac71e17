// Teach it: classes of the reader's own, a few pictures each, and a last layer that is trained in the page. A mark in the pictures of one
// class is a bias to plant, and to find in the map.
import { button, choice, select, slider, toggle } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { Plot } from "../lib/plot.js";
import { shortNumber } from "../math/scale.js";
import { answers, Lab, percent, views } from "./lab.js";
import { planted } from "./mark.js";
import { toPixels } from "./pixels.js";
import { spot, View } from "./view.js";

const DRAWN = ["disc", "square", "star"], EXAMPLES = 8, SHOWN = 12, STEPS = 100;
const OPTIMIZERS = [["sgd", "SGD"], ["momentum", "momentum"], ["nesterov", "Nesterov"], ["rmsprop", "RMSprop"], ["adam", "Adam"], ["lion", "Lion"]];

/** The pictures of one class in a row, and how many there are. */
class Row {
  constructor(side) {
    this.side = side;
    this.canvas = Object.assign(html("canvas", { role: "img", style: "width:100%;image-rendering:pixelated;border-radius:6px;background:var(--soft)" }),
      { width: (side + 1) * SHOWN - 1, height: side });
    this.caption = html("span", { class: "cc-note" });
    this.node = html("div", { style: "margin:6px 0" }, this.caption, this.canvas);
  }

  show(name, pictures) {
    const brush = this.canvas.getContext("2d"), { side } = this, shown = pictures.slice(-SHOWN);
    brush.clearRect(0, 0, this.canvas.width, side);
    shown.forEach((planes, k) => brush.putImageData(new ImageData(toPixels(planes), side, side), k * (side + 1), 0));
    const many = `${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}`;
    this.caption.textContent = `${name}: ${many}${pictures.length > SHOWN ? `, the last ${SHOWN} are shown` : ""}`;
    this.canvas.setAttribute("aria-label", `What is taught as ${name}: ${many}.`);
  }
}

function render(context) {
  const lab = new Lab(context, "Teach it classes of your own");
  let planes, title, answer = null, taught = null, busy = false, seed = 3;
  const pictures = DRAWN.map(() => []);

  return lab.open(({ stages }) => {
    lab.info = { ...lab.info, classes: lab.get("names") };
    const names = () => lab.get("names"), stage = () => stages[lab.get("stage")], target = () => (lab.get("target") < 0 ? null : lab.get("target"));
    const plain = new View(lab, "The picture", lab.side, "the picture"), marked = new View(lab, "The same with the mark", lab.side, "the same with the mark");
    const bars = answers(lab, "target", DRAWN.length), rows = DRAWN.map(() => new Row(lab.side));
    const look = () => planes && taught && lab.look(() => ["judge", { pixels: planes, head: taught, target: target(), stage: stage() }], (got) => { answer = got; });
    const use = (next, name) => { planes = next; title = name; answer = null; look(); lab.invalidate(); };
    const forget = () => { taught = answer = null; lab.invalidate(); };

    async function fill() {
      try {
        const drawn = await lab.engine.ask("examples", { seed: seed++, names: DRAWN, count: (EXAMPLES + 1) * DRAWN.length });
        drawn.planes.slice(0, -DRAWN.length).forEach((picture, i) => pictures[drawn.labels[i]].push(picture));
        forget();
        use(drawn.planes.at(-1), "a new drawing");
      } catch (error) { lab.tell(error.message); }
    }
    async function teach() {
      const full = pictures.filter((list) => list.length).length;
      if (full < 2) return lab.tell("Give two classes a picture first, better five or more each. Press Fill with drawn shapes, or add pictures of your own.");
      if (busy) return;
      lab.tell("");
      lab.stopCamera();
      busy = true;
      taught = answer = null;
      lab.invalidate();
      const biased = lab.get("bias"), labels = pictures.flatMap((list, k) => list.map(() => k));
      try {
        const head = await lab.engine.ask("teach", { pictures: pictures.flat(), labels, classes: DRAWN.length, biased,
          optimizer: lab.get("optimizer"), lr: lab.get("lr"), steps: STEPS });
        if (!Array.from(head.weight).every(Number.isFinite)) lab.tell("The numbers have overflowed. Teach again with a smaller learning rate.");
        else taught = { ...head, biased, count: labels.length };
        look();
      } catch (error) { lab.tell(error.message); }
      busy = false;
      lab.invalidate();
    }

    // ---- the picture that is looked at, or added ------------------------------------------------------------------
    const pen = html("input", { type: "color", value: "#e03030", "aria-label": "color of the pen" });
    const color = () => [1, 3, 5].map((i) => parseInt(pen.value.slice(i, i + 2), 16) / 255);
    plain.brush({ label: "Draw on the picture.", on: () => lab.get("drawing"), reach: () => 1.5,
      dab: (x, y) => { lab.stopCamera(); spot(planes, lab.side, x, y, 1.5, color()); title = "your drawing"; look(); lab.invalidate(); } });
    lab.sources(use, { camera: { ask: (source) => ({ source, target: null, stages: [] }), heard: (got) => { planes = got.pixels; title = "the camera"; look(); } } });
    lab.row(toggle(lab, "drawing", "draw"), pen,
      button("Blank sheet", () => { lab.stopCamera(); lab.set("drawing", true); use(new Float32Array(3 * lab.side ** 2).fill(1), "your drawing"); }));
    lab.add(views(plain.node, marked.node), bars.node);

    // ---- what it is taught ----------------------------------------------------------------------------------------
    const fields = DRAWN.map((drawn, k) => html("input", { type: "text", class: "cc-search", value: names()[k], maxlength: 20, "aria-label": `name of class ${k + 1}`,
      onchange: () => lab.set("names", names().map((name, i) => (i === k ? fields[k].value.trim() || drawn : name))) }));
    lab.row(html("span", {}, "classes"), ...fields);
    lab.row(choice(lab, "teaching", "class that gets the picture", DRAWN.map((_, k) => [k, `class ${k + 1}`])),
      button("Add the picture to it", () => { pictures[lab.get("teaching")].push(planes.slice()); forget(); }));
    lab.row(button("Fill with drawn shapes", fill), button("Empty all", () => { pictures.forEach((list) => list.splice(0)); forget(); }));
    lab.add(...rows.map((row) => row.node));
    lab.row(select(lab, "optimizer", "optimizer", OPTIMIZERS), toggle(lab, "bias", "plant a bias: the mark in every picture of class 1"), button("Teach it", teach));
    lab.row(slider(lab, "lr", "learning rate", { min: 0.0001, max: 10, log: true, format: (v) => shortNumber(+v.toPrecision(2)) }));
    const plot = new Plot(lab, { label: "Loss over the steps of the head's training", height: 150, x: { domain: [0, STEPS], label: "step" },
      y: { domain: [0, 1.5], label: "loss", ticks: [0, 0.5, 1, 1.5] } });
    lab.row(choice(lab, "stage", "stage whose maps are shown", stages.map((s, i) => [i, s])));
    lab.row(slider(lab, "opacity", "opacity", { min: 0, max: 1, step: 0.05, format: (v) => v.toFixed(2) }));
    for (const trait of ["target", "stage"]) lab.on(trait, look);
    lab.on("drawing", () => plain.allow());
    lab.on("names", () => { lab.info.classes = names(); });

    function said() {
      const count = pictures.reduce((sum, list) => sum + list.length, 0), own = (chances) => chances.indexOf(Math.max(...chances));
      if (busy) return `It looks at ${count} pictures, and learns.`;
      if (!taught) return `Nothing is taught yet: a guess among three is right in ${percent(1 / 3)}. ${count ? `${count} ${count === 1 ? "picture is" : "pictures are"} ready: press Teach it.` : "Press Fill with drawn shapes, then Teach it."}`;
      const learned = `Taught with ${taught.count} pictures${taught.biased ? `, the mark in every ${names()[0]}` : ""}: it gets ${percent(taught.right)} of them right. ` +
        `The mark makes ${names()[0]} of ${taught.fooled} of the ${taught.others} others.`;
      if (!answer) return learned;
      const [bare, changed] = answer.map((a) => `${lab.name(own(a.chances))}, ${percent(a.chances[own(a.chances)])}`);
      const corner = answer[1].maps[0].peak > 0 ? `${percent(answer[1].corner)} of what speaks for ${lab.name(answer[1].target)} lies in the quarter of the mark` : `nothing speaks for ${lab.name(answer[1].target)}`;
      return `${learned} Now ${title}: ${bare}. With the mark: ${changed}; ${corner}.`;
    }

    lab.draw(["opacity", "names", "bias"], () => {
      const opacity = lab.get("opacity"), text = said();
      pictures.forEach((list, k) => rows[k].show(names()[k], lab.get("bias") && k === 0 ? list.map((p) => planted(p, lab.side)) : list));
      bars.node.style.display = answer ? "" : "none";
      plot.line("loss", (taught?.losses ?? []).map((y, k) => [k + 1, y]), { color: 0 });
      plot.describe(taught ? `Loss of the head over ${STEPS} steps: from ${taught.losses[0].toFixed(2)} to ${taught.losses.at(-1).toFixed(2)}.` : "Loss of the head: nothing is taught yet.");
      lab.say(text);
      if (!planes) return;
      [plain, marked].forEach((view, i) => {
        const of = answer?.[i];
        view.paint(i ? planted(planes, lab.side) : planes, { seen: of?.maps[0], opacity });
        view.caption.textContent = `${i ? "with the mark" : title}${of ? `: map for ${lab.name(of.target)}` : ""}`;
        view.describe(`${i ? "The same picture with the mark" : "The picture"}${of ? ` under its map for ${lab.name(of.target)}` : ""}. ${text}`);
      });
      if (answer) bars.show(answer[0].chances, answer[0].target);
    });
    const [first] = lab.samples();
    lab.use(first.planes, first.title);
  });
}

export default { render };
