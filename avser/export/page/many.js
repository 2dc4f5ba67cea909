// Several clips: a row each, sortable, with progress; a name opens the clip's result.
import { at, element, save } from "./dom.js";
import { plain, rowsCsv } from "./files.js";
import { judge } from "./judge.js";
import { emotion, number, percent, text } from "./texts.js";

const COLUMNS = {
  colName: (row) => row.file.name.toLowerCase(),
  colLabel: (row) => (row.result?.label ? emotion(row.result.label) : "\uffff"),
  colShare: (row) => judge(row.result?.probabilities)?.share ?? -1,
  colLength: (row) => row.result?.duration_s ?? -1,
  colUsed: (row) => row.result?.modalities.join() ?? "",
  colNote: (row) => row.error ?? row.result?.reason ?? "",
};

const NUMBERS = ["colShare", "colLength"];

const streams = ({ modalities }) =>
  modalities.map((name) => text(name === "audio" ? "rowVoice" : "rowFace")).join(" + ");

export class ManyClips {
  // `open` shows a row's result, `options` gives the page's options.
  constructor({ backend, settings, options, open }) {
    Object.assign(this, { backend, settings, options, open, rows: [], sorted: null, up: true, running: false });
    at("files").onchange = ({ target }) => {
      this.add([...target.files]);
      target.value = "";
    };
    at("many-csv").onclick = () => save(new Blob([rowsCsv(this.plain(), settings.emotions)]), "avser.csv");
    at("many-json").onclick = () => save(new Blob([`${JSON.stringify(this.plain(), null, 1)}\n`]), "avser.json");
  }

  add(files) {
    for (const file of files) this.rows.push({ file, progress: 0, result: null, error: null });
    this.draw();
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    let row;
    while ((row = this.rows.find(({ result, error }) => !result && !error))) {
      const current = row;
      try {
        const report = ({ stage, share }) => this.progress(current, stage === "model" ? 0.95 : 0.9 * (share ?? 0));
        current.result = await this.backend.classify(current.file, this.options(), report);
      } catch (error) {
        current.error = error.message;
      }
      this.draw();
    }
    this.running = false;
    const failed = this.rows.filter(({ error }) => error).length;
    at("many-state").textContent = text("manyDone", { total: this.rows.length, failed });
    at("many-downloads").hidden = false;
  }

  progress(row, share) {
    row.progress = share;
    if (row.bar) row.bar.value = share;
  }

  plain() {
    return this.rows.map(({ file, result, error }) =>
      result ? plain(result) : { path: file.name, error: { type: "Error", message: error } },
    );
  }

  sort(column) {
    this.up = this.sorted === column ? !this.up : true;
    this.sorted = column;
    this.draw();
    at("table").querySelector(`[data-column=${column}]`).focus();
  }

  draw() {
    const done = this.rows.filter(({ result, error }) => result || error).length;
    if (!this.rows.length) return;
    at("many-state").textContent = text("manyProgress", { done, total: this.rows.length });
    at("many-scroll").hidden = false;
    at("many-scroll").setAttribute("aria-label", text("manyTable"));
    at("table").tHead.rows[0].replaceChildren(...Object.keys(COLUMNS).map((column) => this.head(column)));
    const rows = this.rows.slice();
    if (this.sorted) {
      const key = COLUMNS[this.sorted];
      rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (this.up ? 1 : -1));
    }
    at("table").tBodies[0].replaceChildren(...rows.map((row) => this.line(row)));
  }

  head(column) {
    const here = this.sorted === column;
    const mark = here ? (this.up ? " ▲" : " ▼") : "";
    const button = element("button", { onclick: () => this.sort(column) }, text(column) + mark);
    button.dataset.column = column;
    const order = here ? (this.up ? "ascending" : "descending") : "none";
    const className = NUMBERS.includes(column) ? "number" : "";
    return element("th", { scope: "col", className, "aria-sort": order }, button);
  }

  line(row) {
    const { file, result, error } = row;
    const name = result
      ? element("button", { className: "link", onclick: () => this.open(row) }, file.name)
      : file.name;
    const cells = [element("td", {}, name)];
    if (result) {
      const best = judge(result.probabilities);
      cells.push(
        element("td", {}, best ? emotion(best.label) : "–"),
        element("td", { className: "number" }, best ? percent(best.share) : ""),
        element("td", { className: "number" }, text("seconds", { value: number(result.duration_s) })),
        element("td", { className: "used" }, streams(result)),
        element("td", { className: "note" }, result.reason ?? ""),
      );
    } else if (error) {
      cells.push(element("td", { className: "note", colSpan: 5 }, element("span", {}, error)));
    } else {
      row.bar = element("progress", { max: 1, value: row.progress, "aria-label": file.name });
      cells.push(element("td", { colSpan: 5 }, row.bar));
    }
    return element("tr", {}, ...cells);
  }
}
