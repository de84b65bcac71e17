// Chapter "Augmentation", the opening figure: one image and nine random changes of it, drawn again at a press.
import { Figure } from "../lib/figure.js";
import { button, toggle } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { originOf, waysOf } from "../math/transforms.js";

const COLUMNS = 5, ROWS = 2, SCALE = 4, GAP = 8;           // pixels of the canvas
const count = (n) => n.toLocaleString("en");

function render(context) {
  const fig = new Figure(context, "One image, and nine random changes of it");
  const [side, padding, hole, fill, dice] = ["side", "padding", "hole", "fill", "dice"].map((name) => fig.get(name));
  const view = fig.get("pixels"), pixels = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const cell = side * SCALE + 2 * GAP, shown = COLUMNS * ROWS - 1, rounds = dice.length / shown;
  const canvas = html("canvas", { role: "img", class: "cc-plot", width: COLUMNS * cell, height: ROWS * cell,
    style: "width:100%;image-rendering:pixelated" });
  const small = html("canvas", { width: side, height: side });
  fig.row(toggle(fig, "crop", "crop"), toggle(fig, "flip", "flip"), toggle(fig, "cutout", "cutout"),
    button("Draw again", () => fig.set("round", (fig.get("round") + 1) % rounds)));
  fig.add(canvas);

  return fig.draw(["round", "crop", "flip", "cutout"], () => {
    const [round, crop, flip, cutout] = ["round", "crop", "flip", "cutout"].map((name) => fig.get(name));
    const brush = canvas.getContext("2d"), tip = small.getContext("2d"), data = tip.createImageData(side, side);
    brush.imageSmoothingEnabled = false;
    brush.clearRect(0, 0, canvas.width, canvas.height);
    brush.fillStyle = fig.color("c1");
    brush.fillRect(0, 0, cell, cell);                      // the frame of the original
    for (let n = 0; n <= shown; n++) {
      const [top, left, mirrored, row, col] = n ? dice[round * shown + n - 1] : [padding, padding, 0, 0, 0];
      const own = crop ? [top, left] : [padding, padding];
      for (let p = 0; p < side * side; p++) {
        const from = originOf(Math.floor(p / side), p % side, side, padding, n && cutout ? hole : 0,
          [...own, flip ? mirrored : 0, row, col]);
        for (let c = 0; c < 3; c++) data.data[4 * p + c] = from < 0 ? fill[c] : pixels[3 * from + c];
        data.data[4 * p + 3] = 255;
      }
      tip.putImageData(data, 0, 0);
      brush.drawImage(small, (n % COLUMNS) * cell + GAP, Math.floor(n / COLUMNS) * cell + GAP, side * SCALE, side * SCALE);
    }
    const parts = [crop && `the crop has ${count(waysOf(side, padding, true))} places`, flip && "the flip has 2 sides",
      cutout && `the cutout has ${count(waysOf(side, padding, false, false, true))} places`].filter(Boolean);
    const text = parts.length ? `${parts.join(", ")}: ${count(waysOf(side, padding, crop, flip, cutout))} possible draws.`
      : "nothing is switched on: every picture is the original.";
    const said = text[0].toUpperCase() + text.slice(1);
    canvas.setAttribute("aria-label", `The original in a frame, and nine changed pictures of it, draw ${round + 1}. ${said}`);
    fig.say(said);
  });
}

export default { render };
