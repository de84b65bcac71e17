// Native form controls bound to a trait both ways: keyboard, touch and screen readers come for free.
import { html, uniqueId } from "./dom.js";

/** A slider. With log = true it moves in equal ratios (min > 0), `steps` of them. */
export function slider(fig, trait, label, { min, max, step, log = false, steps = 100, format = String }) {
  const to = log ? (v) => (Math.log(v / min) / Math.log(max / min)) * steps : (v) => v;
  const from = log ? (p) => +(min * (max / min) ** (p / steps)).toPrecision(3) : (p) => p;
  const range = log ? { min: 0, max: steps, step: 1 } : { min, max, step };
  const id = uniqueId();
  const input = html("input", { type: "range", id, ...range, "data-trait": trait });
  const value = html("output", { for: id });
  const show = () => {
    const v = fig.get(trait), p = to(v), text = format(v);
    input.value = p;
    input.style.setProperty("--part", `${(100 * (p - range.min)) / (range.max - range.min)}%`);
    input.setAttribute("aria-valuetext", text);
    value.textContent = text;
  };
  input.addEventListener("input", () => fig.set(trait, from(+input.value)));
  fig.on(trait, show);
  show();
  return html("div", { class: "cc-slider" }, html("label", { for: id }, label), input, value);
}

/** A check box. */
export function toggle(fig, trait, label) {
  const box = html("input", { type: "checkbox", "data-trait": trait });
  const show = () => { box.checked = fig.get(trait); };
  box.addEventListener("change", () => fig.set(trait, box.checked));
  fig.on(trait, show);
  show();
  return html("label", { class: "cc-toggle" }, box, html("span", {}, label));
}

/** One of a few: radio buttons that look like one segmented switch. `options`: [[value, text], ...]. */
export function choice(fig, trait, label, options) {
  const name = uniqueId();
  const radios = options.map(([value]) =>
    html("input", { type: "radio", name, value, "data-trait": trait, onchange: () => fig.set(trait, value) }));
  const show = () => options.forEach(([value], i) => { radios[i].checked = fig.get(trait) === value; });
  fig.on(trait, show);
  show();
  const labels = options.map(([, text], i) => html("label", {}, radios[i], html("span", {}, text)));
  return html("div", { class: "cc-choice", role: "radiogroup", "aria-label": label }, ...labels);
}

/** One of many. */
export function select(fig, trait, label, options) {
  const box = html("select", { "aria-label": label, "data-trait": trait },
    ...options.map(([value, text]) => html("option", { value }, text)));
  const show = () => { box.selectedIndex = options.findIndex(([value]) => value === fig.get(trait)); };
  box.addEventListener("change", () => fig.set(trait, options[box.selectedIndex][0]));
  fig.on(trait, show);
  show();
  return html("label", { class: "cc-select" }, html("span", {}, label), box);
}

export function button(label, onclick) {
  return html("button", { type: "button", class: "cc-button", onclick }, label);
}

/** Names of the colors: [[palette index or "--variable", text], ...]. */
export function legend(entries) {
  const swatch = (c) => html("i", { style: `background:var(${typeof c === "number" ? `--c${c}` : c})` });
  return html("div", { class: "cc-legend" }, ...entries.map(([c, text]) => html("span", {}, swatch(c), text)));
}
