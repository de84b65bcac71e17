// Adebayo's test as a slider: the layers forget what they learned, the last one first. Does the map notice?
import { choice, slider } from "../lib/controls.js";
import { Plot } from "../lib/plot.js";
import { Lab, percent, views } from "./lab.js";
import { View } from "./view.js";

function render(context) {
  const lab = new Lab(context, "Maps of a network whose layers forget");
  let planes, title, answer, alike = [], round = 0;

  return lab.open(({ stages, layers }) => {
    const before = new View(lab, "The map of the trained network", lab.side, "trained"), after = new View(lab, "The map when layers forgot", lab.side);
    const stage = () => stages[lab.get("stage")], target = () => (lab.get("target") < 0 ? null : lab.get("target"));
    const forget = (count) => ["forget", { pixels: planes, target: target(), stage: stage(), count }];
    const look = () => planes && lab.look(() => forget(lab.get("forgotten")), (got) => { answer = got; });

    /** The whole curve, one point after the other, while nothing else is asked. */
    async function curve() {
      const mine = ++round;
      alike = [];
      for (let count = 0; count <= layers.length && mine === round && !lab.over; count++) {
        while (lab.busy) await new Promise((go) => setTimeout(go, 30));
        try {
          const got = await lab.engine.ask(...forget(count));
          if (mine === round) { alike[count] = got.alike; lab.invalidate(); }
        } catch { return; }
      }
    }
    const restart = () => { look(); curve(); };

    lab.sources((next, name) => { planes = next; title = name; restart(); });
    lab.row(slider(lab, "forgotten", "layers that forgot", { min: 0, max: layers.length, step: 1, format: (v) => `${v} of ${layers.length}` }));
    lab.add(views(before.node, after.node));
    lab.row(choice(lab, "stage", "stage whose maps are shown", stages.map((s, i) => [i, s])));
    const plot = new Plot(lab, { label: "How alike the two maps are", height: 170, x: { domain: [0, layers.length], label: "layers that forgot, from the last" },
      y: { domain: [-1, 1], label: "rank correlation with the trained map", ticks: [-1, 0, 1] } });
    lab.on("forgotten", look);
    for (const trait of ["target", "stage"]) lab.on(trait, restart);

    lab.draw(["opacity"], () => {
      const known = alike.map((r, k) => [k, r]).filter(([, r]) => r != null);
      plot.line("alike", known, { color: 0 });
      plot.rule("zero", { y: 0 });
      if (!answer) return;
      const { count } = answer, opacity = lab.get("opacity"), best = answer.chances.indexOf(Math.max(...answer.chances));
      const was = answer.before.chances.indexOf(Math.max(...answer.before.chances));
      plot.dots("now", [[count, answer.alike]], { color: 1, radius: 6 });
      before.paint(planes, { seen: answer.before.maps[0], opacity });
      after.paint(planes, { seen: answer.maps[0], opacity });
      const last = count ? `from ${layers[0]} back to ${layers[count - 1]}` : "nothing is forgotten";
      after.caption.textContent = `${count} of ${layers.length} layers forgot`;
      const text = `${title}, ${answer.stage}, map for ${lab.name(answer.target)}. ${count} of ${layers.length} layers forgot (${last}). ` +
        `The answer is ${lab.name(best)}, ${percent(answer.chances[best])}; trained it was ${lab.name(was)}, ${percent(answer.before.chances[was])}. ` +
        `The two maps have rank correlation ${answer.alike.toFixed(2)}.`;
      for (const view of [before, after]) view.describe(`${view === before ? "Trained" : "Forgetful"}: the picture under its map. ${text}`);
      plot.describe(`Rank correlation with the trained map by layers that forgot: ${known.map(([k, r]) => `${k}: ${r.toFixed(2)}`).join(", ")}.`);
      lab.say(text);
    });
    const [first] = lab.samples();
    lab.use(first.planes, first.title);
  });
}

export default { render };
