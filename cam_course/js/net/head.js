// Classes of the reader's own: a new last layer on a trained network.
import { Linear } from "./engine.js";
import { crossEntropy, Learner, newHead } from "./train.js";

/** What the network's last layer takes: its features of a picture. */
export function featuresOf(net, pixels) {
  const [source] = [...net.layers.values()].at(-1).inputs;
  net.forward(pixels);
  return net.value(source).data.slice();
}

/**
 * A head for `classes` classes, trained on features (an array for each picture) by one of the course's optimizers: all pictures at each step.
 * { weight, bias, losses, right: share of the pictures that it gets right }.
 */
export function taughtHead(features, labels, classes, { optimizer, lr, steps }) {
  const count = features.length, size = features[0].length, x = new Float32Array(size * count), losses = [];
  features.forEach((picture, b) => picture.forEach((v, c) => { x[c * count + b] = v; }));
  const net = newHead(size, classes, count), learner = new Learner(net, optimizer);
  for (let k = 0; k < steps; k++) losses.push(learner.step(x, labels, lr));
  const { right } = crossEntropy(net.scores(x), labels), [weight, bias] = net.weights;
  return { weight, bias, losses, right: right / count };
}

/** The network with this head instead of its last layer. Nothing is copied: the two share their other layers. */
export function withHead(net, { weight, bias }) {
  const mixed = Object.create(net), last = [...net.layers.keys()].at(-1), { inputs } = net.layers.get(last);
  const head = Object.assign(new Linear({ out: bias.length }, [weight.length / bias.length, 1, 1], weight, bias), { inputs });
  mixed.graph = { ...net.graph, classes: Array.from(bias, (_, k) => `class ${k + 1}`) };
  mixed.layers = new Map([...net.layers].map(([name, layer]) => [name, name === last ? head : layer]));
  return mixed;
}
