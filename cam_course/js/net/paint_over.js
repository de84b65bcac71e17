// Paint over what the network looked at. The answers and the map follow; beside it, what a grey square costs at each place.
import { button, choice, slider } from "../lib/controls.js";
import { answers, Lab, percent, views } from "./lab.js";
import { spot, View } from "./view.js";

const PATCH = 8, STEP = 4, GREY = [0.5, 0.5, 0.5];

function render(context) {
  const lab = new Lab(context, "Paint over what the network looked at");
  let original, planes, title, answer, first, drops, hidden = 0;

  return lab.open(({ stages, classes }) => {
    const view = new View(lab, "The picture under its map; paint on it", lab.side, "map; paint here");
    const beside = new View(lab, "What a grey square costs", lab.side, `cost of a grey square of ${PATCH} px`);
    const bars = answers(lab, "target", classes.length), stage = () => stages[lab.get("stage")];
    const target = () => (lab.get("target") < 0 ? first?.target ?? null : lab.get("target"));       // the class of the picture as it came
    const look = () => planes && lab.look(() => ["look", { pixels: planes, target: target(), stages: [stage()] }], (got) => {
      answer = got;
      first ??= got;
    });

    /** The second map: place after place, each a forward pass. A new stroke ends it. */
    async function hide() {
      await new Promise((go) => setTimeout(go, 30));
      while (lab.busy) await new Promise((go) => setTimeout(go, 30));
      if (lab.over || !answer) return;
      const heard = (part) => { if (!part.stopped) { drops = part; lab.invalidate(); } };
      try {
        heard(await lab.engine.ask("hide", { pixels: planes, target: answer.target, patch: PATCH, step: STEP }, { parts: heard }));
      } catch (error) { lab.tell(error.message); }
    }
    const share = () => {
      const cells = lab.side ** 2;
      let n = 0;
      for (let i = 0; i < cells; i++) if ([0, 1, 2].some((c) => planes[c * cells + i] !== original[c * cells + i])) n++;
      return n / cells;
    };
    const use = (next, name) => { original = next; planes = next.slice(); title = name; first = answer = drops = null; hidden = 0; look(); hide(); };
    view.brush({ label: "Paint over the picture in grey.", reach: () => lab.get("radius"), done: hide,
      dab: (x, y) => { spot(planes, lab.side, x, y, lab.get("radius"), GREY); hidden = share(); look(); } });

    lab.sources(use);
    lab.row(slider(lab, "radius", "size of the brush", { min: 1, max: 8, step: 1, format: (v) => `${v} px` }));
    lab.add(views(view.node, beside.node), bars.node);
    lab.row(button("Paint over the hottest place", () => {
      const { map, w, h } = answer.maps[0], at = map.indexOf(Math.max(...map));
      spot(planes, lab.side, Math.floor(((at % w) + 0.5) * lab.side / w), Math.floor((Math.floor(at / w) + 0.5) * lab.side / h), lab.get("radius"), GREY);
      hidden = share();
      look();
      hide();
    }), button("Start again", () => use(original, title)));
    lab.row(choice(lab, "stage", "stage whose maps are shown", stages.map((s, i) => [i, s])));
    lab.on("stage", look);
    lab.on("target", () => { look(); hide(); });

    lab.draw(["opacity", "radius"], () => {
      if (!answer) return;
      const { maps: [seen], chances, scores, target: k } = answer, opacity = lab.get("opacity");
      view.paint(planes, { seen, opacity });
      const costs = drops && Array.from(drops.drops, (v) => (Number.isNaN(v) ? 0 : v)), worst = costs && Math.max(...costs);
      beside.paint(planes, { seen: drops && { map: costs, h: drops.cells, w: drops.cells }, top: worst, opacity });
      bars.show(chances, k);
      const before = first.chances[k], evidence = seen.peak > 0 ? "" : " No positive evidence is left on this map.";
      const text = `${title}: ${lab.name(k)} ${percent(before)} as it came, ${percent(chances[k])} now; its score went from ${first.scores[k].toFixed(1)} to ` +
        `${scores[k].toFixed(1)}. ${percent(hidden)} of the picture is painted over.${evidence}`;
      view.describe(`The picture under its map. ${text}`);
      beside.describe(`What a grey square costs the score of ${lab.name(k)}: at most ${(worst ?? 0).toFixed(1)}.`);
      lab.say(text);
    });
    const [sample] = lab.samples();
    lab.use(sample.planes, sample.title);
  });
}

export default { render };
