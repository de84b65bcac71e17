// Chapter "The gallery of errors": label the images yourself, beside the net and thirty published ones.
import { Figure } from "../lib/figure.js";
import { button } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { Plot } from "../lib/plot.js";
import { scores, verdict } from "../math/gallery.js";

const SIDE = 176;                                          // px of the picture; 32-px images are shown as squares

function render(context) {
  const fig = new Figure(context, "Label the images yourself, and compare with the nets");
  const [names, labels, answers, nets, votes, [height, width]] =
    ["names", "labels", "answers", "nets", "votes", "size"].map((n) => fig.get(n));
  const n = labels.length, high = (SIDE * height) / width;

  const strip = html("img", { src: `data:image/png;base64,${fig.get("pictures")}`, alt: "", draggable: "false",
    style: `width:${SIDE}px;height:${high * n}px;max-width:none;margin:0;display:block;border-radius:0;image-rendering:pixelated` });
  const frame = html("div", { style: `width:${SIDE}px;height:${high}px;overflow:hidden;border-radius:6px;flex:none` }, strip);
  const buttons = names.map((name, c) => html("button", { type: "button", class: "cc-button", onclick: () => answer(c),
    style: "text-align:left;padding:3px 8px;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap" },
    names.length === 10 ? `${(c + 1) % 10} ${name}` : name));
  const grid = html("div", { role: "group", "aria-label": "your answer",
    style: "display:grid;grid-template-columns:repeat(auto-fill,minmax(112px,1fr));gap:6px;flex:1 1 130px;align-content:start" }, ...buttons);
  const where = html("p", { style: "font-weight:650" });
  const next = button("Next image", () => { go(1); buttons[0].focus(); });
  const back = button("Back", () => go(-1));
  const again = button("Start again", () => { fig.set("given", labels.map(() => -1)); fig.set("at", 0); });
  fig.add(where, html("div", { style: "display:flex;flex-wrap:nowrap;gap:14px;align-items:flex-start;margin:6px 0" }, frame, grid));
  fig.row(back, next, again);

  const bars = ["you", "our net", "30 nets"];
  const plot = new Plot(fig, { label: "Right answers so far", height: 128, margin: { top: 22, bottom: 24, left: 34, right: 10 },
    x: { domain: [-0.6, 2.6], ticks: [0, 1, 2], format: (v) => bars[v] },
    y: { domain: [0, 4], label: "right so far" } });

  function go(by) { fig.set("at", Math.max(0, Math.min(n - 1, fig.get("at") + by))); }
  function answer(c) {
    const given = [...fig.get("given")], at = fig.get("at");
    if (given[at] >= 0) return;                            // the first answer counts: afterwards the label is known
    given[at] = c;
    fig.set("given", given);
    if (at < n - 1) next.focus();
  }
  fig.root.addEventListener("keydown", (e) => {
    if (names.length === 10 && /^[0-9]$/.test(e.key) && !e.ctrlKey && !e.metaKey && !e.altKey) answer((+e.key + 9) % 10);
  });

  return fig.draw(["at", "given"], () => {
    const at = fig.get("at"), given = fig.get("given"), done = given[at] >= 0, found = scores(labels, answers, nets, given);
    strip.style.transform = `translateY(${-high * at}px)`;
    where.textContent = `Image ${at + 1} of ${n}`;
    buttons.forEach((b, c) => {
      b.setAttribute("aria-pressed", String(given[at] === c));
      b.style.borderColor = done && c === labels[at] ? "var(--c2)" : done && c === given[at] ? "var(--c1)" : "";
      b.style.fontWeight = done && (c === labels[at] || c === given[at]) ? "650" : "";
    });
    back.disabled = at === 0;
    next.disabled = at === n - 1;
    const values = [found.reader, found.net, found.nets];
    const top = Math.max(4, found.seen);
    plot.y.domain = [0, top];
    plot.y.ticks = [0, top];
    values.forEach((v, k) => {
      plot.bars(`bar ${k}`, [[k, v]], { color: k, width: 0.5 });
      plot.text(`value ${k}`, k, v, found.seen ? (k === 2 ? v.toFixed(1) : String(v)) : "", { anchor: "middle", dy: -5, bold: true });
    });
    const total = `After ${found.seen} of ${n}: you ${found.reader}, our net ${found.net}, the thirty nets ${found.nets.toFixed(1)} on average.`;
    fig.say(done ? `${given[at] === labels[at] ? "As the label says." : `You said ${names[given[at]]}.`} `
      + `${verdict(names, labels[at], answers[at], nets[at], votes[at])} ${total}`
      : `What is it? ${found.seen ? total : "Choose with a click, a tap, or the digit of the class."}`);
  });
}

export default { render };
