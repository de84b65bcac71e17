// Mislead the network, step by step: FGSM in one jump, PGD in many, and random noise that goes as far.
import { button, select, slider } from "../lib/controls.js";
import { answers, Lab, percent, views } from "./lab.js";
import { View } from "./view.js";

const SHARE = 4;                                           // a step of PGD is this part of epsilon

function render(context) {
  const lab = new Lab(context, "Mislead the network, step by step");
  let original, planes, title, clean, answer, steps = 0, way = "", seed = 0, queue = Promise.resolve();

  return lab.open(({ stages, classes }) => {
    const before = new View(lab, "The picture as it was, under its map", lab.side), after = new View(lab, "The changed picture under its map", lab.side);
    const change = new View(lab, "What was changed, enlarged", lab.side), bars = answers(lab, "shown", classes.length);
    const stage = () => stages[lab.get("stage")], eps = () => lab.get("eps") / 255;
    const shown = () => (lab.get("shown") < 0 ? null : lab.get("shown"));
    const ask = (pixels, target) => lab.engine.ask("look", { pixels, target, stages: [stage()] });

    /** One change after the other, in the order in which they were asked for. */
    function work(change) {
      queue = queue.then(async () => {
        if (change) await change();
        clean ??= await ask(original, null);
        answer = await ask(planes, shown());
      }).catch((error) => lab.tell(error.message)).then(() => lab.invalidate());
    }
    async function step(alpha, from = planes) {
      clean ??= await ask(original, null);
      const goal = lab.get("target"), towards = goal >= 0 && goal !== clean.target;
      const { pixels } = await lab.engine.ask("attack", { original, current: from, k: towards ? goal : clean.target, towards, alpha, eps: eps() });
      planes = pixels;
    }
    const begin = () => { planes = original; steps = 0; way = ""; };
    const pgd = (count) => work(async () => {
      if (way !== "PGD") begin();
      way = "PGD";
      for (let k = 0; k < count; k++) {
        await step(eps() / SHARE);
        steps++;
        answer = await ask(planes, shown());
        lab.invalidate();
      }
    });

    lab.sources((next, name) => work(() => { original = next; title = name; clean = null; begin(); }));
    lab.row(select(lab, "target", "lead it", [[-1, "away from its answer"], ...classes.map((c, k) => [k, `to ${c}`])]));
    lab.row(slider(lab, "eps", "epsilon", { min: 1, max: 16, step: 1, format: (v) => `${v}/255` }));
    lab.row(button("Take a step", () => pgd(1)), button("Ten steps", () => pgd(10)),
      button("One jump (FGSM)", () => work(async () => { await step(eps(), original); way = "FGSM"; steps = 1; })),
      button("Equal noise", () => work(async () => {
        ({ pixels: planes } = await lab.engine.ask("noise", { original, eps: eps(), seed: ++seed }));
        way = "noise";
        steps = 0;
      })), button("Back", () => work(begin)));
    lab.add(views(before.node, after.node, change.node), bars.node);
    lab.on("eps", () => work(begin));
    lab.on("target", () => work(begin));
    lab.on("shown", () => work());

    lab.draw(["opacity"], () => {
      if (!answer || !clean) return;
      const opacity = lab.get("opacity"), best = answer.chances.indexOf(Math.max(...answer.chances)), was = clean.target;
      before.paint(original, { seen: clean.maps[0], opacity });
      after.paint(planes, { seen: answer.maps[0], opacity });
      change.paint(planes.map((v, i) => 0.5 + (v - original[i]) / (2 * eps())));
      before.caption.textContent = `before: ${lab.name(was)}, ${percent(clean.chances[was])}`;
      after.caption.textContent = `after: ${lab.name(best)}, ${percent(answer.chances[best])}`;
      change.caption.textContent = "the change, enlarged";
      bars.show(answer.chances, answer.target);
      const far = planes.reduce((m, v, i) => Math.max(m, Math.abs(v - original[i])), 0) * 255;
      const how = { "": "Nothing is changed yet", PGD: `After ${steps} ${steps === 1 ? "step" : "steps"} of PGD`, FGSM: "After one jump (FGSM)", noise: "With random noise that goes as far" }[way];
      const text = `${how}, epsilon ${lab.get("eps")}/255: ${lab.name(was)} has ${percent(answer.chances[was])} (before: ${percent(clean.chances[was])}), ` +
        `the answer is ${lab.name(best)}. No number moved by more than ${far.toFixed(1)} of 255.`;
      before.describe(`${title} under its map for ${lab.name(was)}.`);
      after.describe(`The changed picture under its map for ${lab.name(answer.target)}. ${text}`);
      change.describe("What was added to the picture, enlarged so that epsilon is full color.");
      lab.say(text);
    });
    const [first] = lab.samples();
    lab.use(first.planes, first.title);
  });
}

export default { render };
