// Two ways to play a figure: a walk drawn step by step, and a film of recorded moments that a slider moves too.
import { button } from "./controls.js";

/**
 * A button that draws the figure's `steps` one after another: pace(k) of them at frame k, until all are there.
 * Returns { button, shown }: shown() is how many steps to draw now, Infinity for all. A change of one of `traits` ends the walk.
 */
export function walking(fig, label, pace, traits) {
  let steps = Infinity;
  const show = (n) => {
    steps = n < fig.get("steps") ? n : Infinity;
    fig.invalidate();
    return steps < Infinity;
  };
  for (const trait of traits) fig.on(trait, () => { fig.stop(); steps = Infinity; });
  return { button: button(label, () => fig.animate((k) => show(pace(k)), () => show(Infinity))), shown: () => steps };
}

/**
 * A button that moves `trait` from where it is to `last` (from 0 if it is there), in multiples of `every`; the whole way takes
 * `seconds`. It pauses, and so does a change of the trait by another hand. Returns { button, label }: call label() inside draw().
 */
export function playing(fig, trait, { last, seconds, every = 1 }) {
  let expected = -1;                                       // what the film itself has set last
  const show = (moment) => {
    expected = Math.min(last, Math.round(moment / every) * every);
    if (expected !== fig.get(trait)) fig.set(trait, expected);
    return expected < last;
  };
  const play = button("Play", () => {
    if (fig.running) fig.stop();
    else {
      const from = fig.get(trait) < last ? fig.get(trait) : 0;
      fig.animate((k) => show(from + (k * last) / (seconds * 60)), () => show(last));
    }
    fig.invalidate();
  });
  fig.on(trait, () => { if (fig.get(trait) !== expected) fig.stop(); });   // the reader's hand goes first
  return { button: play, label: () => { play.textContent = fig.running && fig.get(trait) < last ? "Pause" : "Play"; } };
}
