// A chart of columns, one for each look: what every replica has sent, on top of each other.

const COLUMNS = 120;
const COLUMN_S = 0.25;
const FOOT = 16;
const LEFT = 46;
const MARK = 28;  // a mark's width
const FONT = "11px system-ui, sans-serif";
const COLOURS = ["one", "two", "three", "line", "faint", "bad", "good"];

const total = (values) => values.reduce((sum, one) => sum + one, 0);

export class Chart {
  #canvas;
  #unit;
  #columns = [];

  constructor(canvas, unit) {
    this.#canvas = canvas;
    this.#unit = unit;
  }

  // values: one for each replica. marks: what happened then, as { text, bad }.
  add(values, marks) {
    this.#columns.push({ values, marks });
    if (this.#columns.length > COLUMNS) this.#columns.shift();
  }

  // Each replica's part of all in the last columns, from 0 to 1.
  shares(columns) {
    const recent = this.#columns.slice(-columns);
    const sums = [0, 1, 2].map((k) => total(recent.map((column) => column.values[k])));
    return sums.map((sum) => sum / (total(sums) || 1));
  }

  draw() {
    const scale = window.devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    const most = roundUp(Math.max(1, ...this.#columns.map((column) => total(column.values))));
    const step = (width - LEFT) / COLUMNS;
    const first = width - this.#columns.length * step;
    const y = (value) => 1 + (height - FOOT - 1) * (1 - value / most);
    const colours = this.#colours();
    axes(pen, width, height, y, most, this.#unit, colours);
    this.#columns.forEach((column, index) => bar(pen, first + index * step, step, y, column.values, colours));
    this.#marks(pen, (index) => first + index * step, height, colours);
  }

  // Words that would cover each other stand in rows.
  #marks(pen, x, height, colours) {
    let [last, row] = [-MARK, 0];
    this.#columns.forEach(({ marks }, index) => {
      for (const one of marks) {
        row = x(index) - last < MARK ? row + 1 : 0;
        last = x(index);
        mark(pen, last, row, height, one, colours);
      }
    });
  }

  // Of the scheme in force: light-dark() is resolved in properties that are colours only.
  #colours() {
    const probe = this.#canvas;
    const style = getComputedStyle(probe);
    return Object.fromEntries(COLOURS.map((name) => {
      probe.style.color = `var(--${name})`;
      return [name, style.color];
    }));
  }
}

function axes(pen, width, height, y, most, unit, colours) {
  pen.font = FONT;
  pen.strokeStyle = colours.line;
  pen.fillStyle = colours.faint;
  pen.textAlign = "right";
  for (const value of [0, most / 2, most]) {
    const at = Math.round(y(value)) - 0.5;
    pen.beginPath();
    pen.moveTo(LEFT, at);
    pen.lineTo(width, at);
    pen.stroke();
    pen.textBaseline = value === most ? "top" : "middle";
    pen.fillText(`${value.toLocaleString("en")} ${value ? unit : ""}`.trim(), LEFT - 5, at);
  }
  pen.textBaseline = "bottom";
  const seconds = COLUMNS * COLUMN_S;
  for (const [ago, align] of [[seconds, "left"], [20, "center"], [10, "center"], [0, "right"]]) {
    pen.textAlign = align;
    pen.fillText(ago ? `${ago} s ago` : "now", width - ((width - LEFT) * ago) / seconds, height);
  }
}

function bar(pen, x, step, y, values, colours) {
  let below = 0;
  values.forEach((value, k) => {
    pen.fillStyle = colours[COLOURS[k]];
    pen.fillRect(x, y(below + value), step - 0.6, y(below) - y(below + value));
    below += value;
  });
}

function mark(pen, x, row, height, { text, bad }, colours) {
  pen.font = `bold ${FONT}`;
  pen.textAlign = "right";
  pen.textBaseline = "top";
  pen.strokeStyle = pen.fillStyle = bad ? colours.bad : colours.good;
  pen.setLineDash([3, 3]);
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height - FOOT);
  pen.stroke();
  pen.setLineDash([]);
  pen.fillText(text, x - 3, 2 + 13 * row);
}

function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((k) => k * power).find((one) => one >= value);
}
