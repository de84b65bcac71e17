// Chapter "The gallery of errors": the score of the reader, the net and thirty nets, and what is known of one image.

const highest = (row) => row.indexOf(Math.max(...row));

/** Right answers among the images that have been answered (given >= 0); the nets' is the mean of them all. */
export function scores(labels, answers, nets, given) {
  const seen = given.flatMap((g, k) => (g >= 0 ? [k] : []));
  const total = nets.length ? nets[0].reduce((a, b) => a + b, 0) : 1;
  const count = (right) => seen.reduce((sum, k) => sum + right(k), 0);
  return { seen: seen.length, reader: count((k) => +(given[k] === labels[k])), net: count((k) => +(answers[k] === labels[k])),
    nets: count((k) => nets[k][labels[k]] / total) };
}

/** The verdict on one image, in words. `votes`: [guess, label, guess, both, neither], or [] where nobody doubted the label. */
export function verdict(names, label, answer, nets, votes) {
  const total = nets.reduce((a, b) => a + b, 0), others = nets.map((n, c) => (c === label ? -1 : n)), first = highest(others);
  const rest = others[first] > 0 ? `; the most frequent other answer is ${names[first]} (${others[first]})` : "";
  const doubt = votes.length ? ` An algorithm doubted this label and guessed ${names[votes[0]]}. Of five people ${votes[1]} chose ${names[label]}, `
    + `${votes[2]} ${names[votes[0]]}, ${votes[3]} both, ${votes[4]} neither.` : "";
  return `The label is ${names[label]}. Our net says ${names[answer]}. ${nets[label]} of ${total} published nets say ${names[label]}${rest}.${doubt}`;
}
