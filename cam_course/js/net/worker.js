// The network's own thread: the page asks, and goes on answering its reader. One question after the other; a new one ends a long answer.
import { softmax, Network } from "./engine.js";
import { attackStep, equalNoise, forgetful, gradCam, occlusion, rankCorrelation, shuffled, weighted } from "./explain.js";
import { asBytes } from "./files.js";
import { featuresOf, taughtHead, withHead } from "./head.js";
import { cornerShare, planted } from "./mark.js";
import { rest, serve } from "./serve.js";
import { drawnShapes } from "./shapes.js";
import { readNet } from "./weights.js";
import { squareOf } from "./pixels.js";

let file, net, blank;                                      // what is open; the same with its numbers shuffled
const side = () => file.graph.input[1];

/** Answers, chosen class (the surest one for null) and its maps at `stages`. */
function look(network, pixels, target, stages) {
  const scores = network.forward(pixels), k = target ?? scores.indexOf(Math.max(...scores));
  return { scores: scores.slice(), chances: softmax(scores), target: k, maps: stages.map((stage) => ({ stage, ...gradCam(network, stage, k) })) };
}

const ANSWERS = {
  open({ data }) {
    file = readNet(asBytes(data));
    net = new Network(file.graph, file.load);
    const { input, stages, classes, cut = 1 } = file.graph;
    return { input, stages, classes, cut, layers: weighted(file.graph) };
  },

  async square({ source }) {
    const { input: [, side], cut } = file.graph;
    return { pixels: await squareOf(source, side, cut) };
  },

  look: ({ pixels, target, stages }) => look(net, pixels, target, stages),

  /** A frame of the camera: its square, and at once what the network sees in it. */
  async watch({ source, target, stages }) {
    const { pixels } = await ANSWERS.square({ source });
    return { pixels, ...look(net, pixels, target, stages) };
  },

  async hide({ pixels, target, patch, step }, tell, current) {
    let last = performance.now();
    const [, side] = file.graph.input, cells = Math.ceil(side / step), scores = new Float32Array(cells * cells).fill(NaN);
    const whole = net.forward(pixels)[target];
    for (const [row, column, score] of occlusion(net, pixels, target, { patch, step })) {
      scores[row * cells + column] = whole - score;
      if (performance.now() - last < 60) continue;
      tell({ drops: scores.slice(), cells });
      await rest();
      if (!current()) return { stopped: true };
      last = performance.now();
    }
    return { drops: scores, cells };
  },

  attack: ({ original, current, k, towards, alpha, eps }) => ({ pixels: attackStep(net, original, current, { k, towards, alpha, eps }) }),

  noise: ({ original, eps, seed }) => ({ pixels: equalNoise(original, eps, seed) }),

  /** The network's last `count` layers forget: its map, and how much that one is like the map of what was learned. */
  forget({ pixels, target, stage, count }) {
    blank ??= shuffled(file);
    const before = look(net, pixels, target, [stage]), seen = look(forgetful(net, blank, count), pixels, before.target, [stage]);
    return { ...seen, before, count, stage, alike: rankCorrelation(seen.maps[0].map, before.maps[0].map) };
  },

  /** Pictures to teach with, the names in turn. */
  examples: ({ seed, names, count }) => drawnShapes(seed, names, count, { side: side(), strokes: 0 }),

  /** A new last layer from labeled pictures; with `biased` all of the first class get the mark. `fooled`: how many of the others it moves there. */
  async teach({ pictures, labels, classes, biased, ...how }) {
    const features = [];
    for (const [i, planes] of pictures.entries()) {
      features.push(featuresOf(net, biased && !labels[i] ? planted(planes, side()) : planes));
      await rest();
    }
    const head = taughtHead(features, labels, classes, how), taught = withHead(net, head);
    let fooled = 0, others = 0;
    for (const [i, planes] of pictures.entries()) {
      if (!labels[i]) continue;
      const [first, ...more] = taught.forward(planted(planes, side()));
      others++;
      fooled += more.every((v) => v < first);
      await rest();
    }
    return { ...head, fooled, others };
  },

  /** A picture as it is, and with the mark: answers of a taught head, their maps, and how much of each map lies where the mark is. */
  judge({ pixels, head, target, stage }) {
    const taught = withHead(net, head), seen = [pixels, planted(pixels, side())].map((planes) => look(taught, planes, target, [stage]));
    return seen.map((s) => ({ ...s, corner: cornerShare(s.maps[0]) }));
  },
};

serve(ANSWERS);
