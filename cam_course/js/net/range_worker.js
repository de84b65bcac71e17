// The thread of the live range test: it draws the pictures, trains the small net, and reads the curve.
import { growingRates, spreadOfTests } from "../math/range_test.js";
import { scheduleShape } from "../math/schedules.js";
import { rest, serve } from "./serve.js";
import { drawnShapes } from "./shapes.js";
import { accuracy, Batches, firstWeights, Learner, rangeTest, smallNet } from "./train.js";

const NAMES = ["disc", "square", "star", "cross"], SIDE = 32, BATCH = 32, TRAIN = 1920, FRESH = 512;
const shapesOf = (seed, count) => drawnShapes(seed, NAMES, count, { side: SIDE, pair: NAMES.slice(0, 2) });
let pool;                                                  // drawn once, when first needed

function pictures() {
  pool ??= { train: shapesOf(0, TRAIN), fresh: shapesOf(1, FRESH) };
  return pool;
}

/** A net and an order of the pictures, both from the seed. */
function beginner(seed, optimizer) {
  const { train: { planes, labels } } = pictures();
  return { learner: new Learner(smallNet(firstWeights(seed, NAMES.length), BATCH, NAMES.length, SIDE), optimizer),
    batches: new Batches(planes, labels, BATCH, 1000 + seed) };
}

serve({
  open: () => ({ input: [3, SIDE, SIDE], classes: NAMES, batch: BATCH, fresh: FRESH, samples: shapesOf(2, 8).planes }),

  /** A range test for each seed. Parts: the losses of each so far, and after each test what all of them say. */
  async range({ optimizer, low, high, steps, seeds }, tell, current) {
    const rates = growingRates(low, high, steps), losses = [];
    let spread = null;
    for (let seed = 0; seed < seeds; seed++) {
      const { learner, batches } = beginner(seed, optimizer);
      losses.push([]);
      for (const loss of rangeTest(learner, batches, rates)) {
        losses[seed].push(loss);
        tell({ rates, losses, spread });
        await rest();
        if (!current()) return { rates, losses, spread, stopped: true };
      }
      spread = { tests: seed + 1, ...spreadOfTests(rates, losses) };
    }
    return { rates, losses, spread };
  },

  /** Trainings side by side, each with its highest rate: the same first weights, the same batches. At the end, what share of new pictures is right. */
  async train({ optimizer, schedule, rates, steps }, tell, current) {
    const runs = rates.map(() => beginner(0, optimizer)), [{ batches }] = runs, losses = rates.map(() => []);
    const { fresh } = pictures(), share = schedule === "one-cycle" ? 0.3 : 0;
    for (let k = 0; k < steps; k++) {
      const { x, labels } = batches.at(k);
      for (const [i, { learner }] of runs.entries()) {
        if (losses[i].length && !Number.isFinite(losses[i].at(-1))) continue;          // its weights are no numbers any more
        losses[i].push(learner.step(x, labels, rates[i] * scheduleShape(schedule, k, steps, share)));
      }
      tell({ rates, losses });
      await rest();
      if (!current()) return { rates, losses, stopped: true };
    }
    const test = new Batches(fresh.planes, fresh.labels, BATCH, [], batches);
    return { rates, losses, right: runs.map(({ learner }, i) => (Number.isFinite(losses[i].at(-1)) ? accuracy(learner.net, test) : null)) };
  },

  stop: () => ({}),
});
