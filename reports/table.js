// The table of all results. The state of the view is the address's hash, so that a link restores it. Data come in
// files that assign to one global, one for each device and workload; only those that the filters ask for are loaded.
const { chunks, filters, columns, shown, kernels } = sparsemark["table-manifest"];
const AT_ONCE = 100; // rows on the screen, and how many more the button brings
const MANY = 20000; // results of which only the first device's are shown unasked
const RANGES = { sparsity: 100, n: 1 }; // column -> how many of the reader's units are one of ours

const form = document.querySelector("#choose");
const table = document.querySelector("#results");
const told = document.querySelector("#count");
const more = document.querySelector("#more");
const byName = new Map(columns.map((column) => [column.name, column]));
const facets = Object.fromEntries(
  filters.map((name) => [name, [...new Set(chunks.flatMap((chunk) => chunk.facets[name]))].sort()]),
);
const many = chunks.reduce((sum, chunk) => sum + chunk.rows, 0) > MANY;
const usual = shown.filter((name) => !(name in facets) || facets[name].length > 1);

// --- data: all loaded chunks as columns; words by their number

const words = {}; // column -> {list, codes}
const numbers = {}; // column -> values
const loaded = new Map(); // chunk name -> promise
let rows = 0;

function script(name) {
  return new Promise((resolve, reject) => {
    const made = Object.assign(document.createElement("script"), { src: `${name}.js`, onload: resolve });
    made.onerror = () => reject(new Error(`${made.src} is missing`));
    document.head.append(made);
  });
}

function load({ name }) {
  if (!loaded.has(name)) loaded.set(name, script(name).then(() => join(sparsemark[name])));
  return loaded.get(name);
}

function join(data) {
  for (const [name, { list, codes }] of Object.entries(data.words)) {
    const column = (words[name] ??= { list: [], codes: [], known: new Map() });
    const renumbered = list.map((word) => {
      if (!column.known.has(word)) column.known.set(word, column.list.push(word) - 1);
      return column.known.get(word);
    });
    for (const code of codes) column.codes.push(renumbered[code]);
  }
  for (const [name, values] of Object.entries(data.numbers)) {
    const column = (numbers[name] ??= []);
    for (const value of values) column.push(value);
  }
  rows += data.rows;
}

const value = (name, row) => (name in words ? words[name].list[words[name].codes[row]] : numbers[name][row]);

function text({ name, form, bounds }, row) {
  const middle = value(name, row);
  if (middle === null || middle === "") return DASH;
  const [low, high] = bounds.map((bound) => value(bound, row) ?? null);
  const said = WRITTEN[form](middle);
  return (low ?? null) === null || high === null ? said : `${said} (${WRITTEN[form](low)} – ${WRITTEN[form](high)})`;
}

// --- the view, and the hash that stands for it

let view;

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const asked = [...given.keys()].length > 0;
  view = { sort: given.get("sort") ?? "-speed_up", search: given.get("search") ?? "", most: AT_ONCE };
  view.columns = (given.get("columns")?.split(",") ?? usual).filter((name) => byName.has(name));
  for (const name of filters) view[name] = given.get(name) ?? "";
  if (many && !asked) view.device = facets.device[0];
  for (const name in RANGES) for (const end of ["from", "to"]) view[`${name}_${end}`] = given.get(`${name}_${end}`) ?? "";
  for (const field of form.querySelectorAll("[name]")) {
    if (field.type === "checkbox") field.checked = view.columns.includes(field.value);
    else field.value = view[field.name];
    if (field.value === "" && field.type !== "checkbox") view[field.name] = ""; // a value that does not exist
  }
}

function write() {
  const said = new URLSearchParams();
  for (const name of [...filters, ...Object.keys(RANGES).flatMap((one) => [`${one}_from`, `${one}_to`]), "search"])
    if (view[name] !== "") said.set(name, view[name]);
  if (view.sort !== "-speed_up") said.set("sort", view.sort);
  if (view.columns.join() !== usual.join()) said.set("columns", view.columns.join());
  if (many && !view.device) said.set("device", "");
  history.replaceState(null, "", `#${said}`);
}

function chosen() {
  const tests = [];
  for (const name of filters.filter((one) => view[one])) {
    const { codes, known } = words[name];
    const code = known.get(view[name]);
    tests.push((row) => codes[row] === code);
  }
  for (const [name, units] of Object.entries(RANGES)) {
    const from = view[`${name}_from`], to = view[`${name}_to`], values = numbers[name];
    if (from !== "") tests.push((row) => values[row] !== null && values[row] >= Number(from) / units - 1e-9);
    if (to !== "") tests.push((row) => values[row] !== null && values[row] <= Number(to) / units + 1e-9);
  }
  for (const part of view.search.toLowerCase().split(/\s+/).filter(Boolean)) {
    const hits = columns
      .filter(({ form }) => form === "word")
      .map(({ name }) => [words[name].codes, words[name].list.map((word) => word.toLowerCase().includes(part))]);
    tests.push((row) => hits.some(([codes, hit]) => hit[codes[row]]));
  }
  const found = [];
  for (let row = 0; row < rows; row++) if (tests.every((test) => test(row))) found.push(row);
  return sorted(found);
}

function sorted(found) {
  const down = view.sort.startsWith("-"), name = view.sort.replace("-", "");
  if (!byName.has(name)) return found;
  let keys = numbers[name];
  if (name in words) {
    const { list, codes } = words[name];
    const order = [...list.keys()].sort((a, b) => list[a].localeCompare(list[b], "en", { numeric: true }));
    const place = [];
    order.forEach((code, at) => (place[code] = list[code] === "" ? null : at));
    keys = codes.map((code) => place[code]);
  }
  const apart = (a, b) => // what is not known comes last, whichever way
    keys[a] === keys[b] ? a - b
    : keys[a] === null ? 1
    : keys[b] === null ? -1
    : (keys[a] < keys[b]) === down ? 1 : -1;
  return found.sort(apart);
}

// --- on the screen

function element(kind, said, about = {}) {
  const made = Object.assign(document.createElement(kind), about);
  made.append(said);
  return made;
}

function heading(column) {
  const down = view.sort === `-${column.name}`, up = view.sort === column.name;
  const button = element("button", column.heading + (down ? " ↓" : up ? " ↑" : ""), { type: "button" });
  button.onclick = () => {
    const first = column.form === "word" || column.form === "seconds" ? column.name : `-${column.name}`;
    view.sort = view.sort === first ? (down ? column.name : `-${column.name}`) : first;
    draw();
    table.querySelectorAll("thead button")[view.columns.indexOf(column.name)]?.focus();
  };
  const made = element("th", button, { scope: "col", className: column.form === "word" ? "" : "number" });
  if (down || up) made.ariaSort = down ? "descending" : "ascending";
  return made;
}

function cell(column, row) {
  const said = text(column, row);
  const page = column.name === "kernel" ? kernels[said] : column.name === "case" ? value("page", row) : "";
  const bad = column.name === "status" && said !== "ok";
  const kind = column.form !== "word" ? "number" : column.name === "note" || column.name === "claims" ? "wide" : "";
  const inside = page ? element("a", column.name === "case" ? "samples" : said, { href: `${page}.html` }) : said;
  if (column.name === "case") inside.title = said;
  return element("td", inside, { className: `${kind}${bad ? " warn" : ""}` });
}

let found = [];
let latest = 0; // a slower answer to an older question is not shown

async function draw() {
  const question = ++latest;
  write();
  const asked = filters.filter((name) => view[name]);
  try {
    await Promise.all(chunks.filter(({ facets }) => asked.every((name) => facets[name].includes(view[name]))).map(load));
  } catch (failed) {
    told.textContent = failed.message;
    return;
  }
  if (question !== latest) return;
  found = rows ? chosen() : [];
  show();
}

function show() {
  const drawn = view.columns.map((name) => byName.get(name));
  table.tHead.rows[0].replaceChildren(...drawn.map(heading));
  table.tBodies[0].replaceChildren(
    ...found.slice(0, view.most).map((row) => {
      const line = document.createElement("tr");
      line.append(...drawn.map((column) => cell(column, row)));
      return line;
    }),
  );
  const on = Math.min(view.most, found.length);
  told.textContent = `${on.toLocaleString("en")} of ${found.length.toLocaleString("en")} results`;
  more.hidden = on === found.length;
}

// --- away from here

const quoted = (said) => (/[",\n]/.test(said) ? `"${said.replaceAll('"', '""')}"` : said);
const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", µ: "\\textmu{}", "×": "$\\times$" };
const latex = (said) => said.replace(/[\\~^µ×&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);

const COPIES = {
  link: () => location.href,
  csv: (drawn) => {
    const parts = drawn.flatMap(({ name, bounds }) => [name, ...bounds]);
    const lines = found.map((row) => parts.map((name) => quoted(String(value(name, row) ?? ""))).join(","));
    return [parts.join(","), ...lines].join("\n") + "\n";
  },
  markdown: (drawn) => {
    const line = (cells) => `| ${cells.map((said) => said.replaceAll("|", "\\|")).join(" | ")} |`;
    const rule = drawn.map(({ form }) => (form === "word" ? "---" : "--:"));
    const lines = found.map((row) => line(drawn.map((column) => text(column, row))));
    return [line(drawn.map((column) => column.heading)), line(rule), ...lines].join("\n") + "\n";
  },
  latex: (drawn) => {
    const line = (cells) => `${cells.join(" & ")} \\\\`;
    const lines = found.map((row) => line(drawn.map((column) => latex(text(column, row)))));
    const shape = drawn.map(({ form }) => (form === "word" ? "l" : "r")).join("");
    const head = line(drawn.map((column) => latex(column.heading)));
    return [`\\begin{tabular}{${shape}}`, "\\toprule", head, "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}\n"].join("\n");
  },
};

async function copy(kind, button) {
  const said = COPIES[kind](view.columns.map((name) => byName.get(name)));
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(said);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser said no";
  }
  setTimeout(() => (button.textContent = before), 1500);
}

const FILES = {
  json: (parts) => JSON.stringify(found.map((row) => Object.fromEntries(parts.map((name) => [name, value(name, row)]))), null, 1),
  parquet: async (parts) => {
    globalThis.parquet ?? (await script("parquet"));
    const column = (name) => ({
      name,
      type: name in words ? "STRING" : "DOUBLE",
      data: found.map((row) => value(name, row)),
    });
    return parquet.parquetWriteBuffer({ columnData: parts.map(column) });
  },
};

async function download(kind) {
  const held = await FILES[kind](view.columns.flatMap((name) => [name, ...byName.get(name).bounds]));
  const link = Object.assign(document.createElement("a"), { download: `sparsemark.${kind}` });
  link.href = URL.createObjectURL(new Blob([held]));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- everything begins

for (const name of filters) {
  const field = form.elements[name];
  for (const word of facets[name]) field.append(element("option", word, { value: word }));
  field.closest("label").hidden = facets[name].length < 2;
}
for (const { name, heading } of columns) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "column", value: name });
  const label = element("label", box);
  label.append(` ${heading}`);
  form.querySelector("fieldset").append(label);
}
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", ({ target }) => {
  if (target.type === "checkbox") {
    const on = new Set([...form.querySelectorAll("[name=column]:checked")].map((box) => box.value));
    view.columns = columns.map(({ name }) => name).filter((name) => on.has(name));
  } else view[target.name] = target.value;
  view.most = AT_ONCE;
  draw();
});
document.querySelector(".actions").addEventListener("click", ({ target }) => {
  const { does } = target.dataset;
  if (does in COPIES) copy(does, target);
  if (does in FILES) download(does).catch((failed) => (told.textContent = failed.message));
  if (does === "reset") {
    history.replaceState(null, "", "#");
    begin();
  }
});
more.addEventListener("click", () => {
  view.most += 5 * AT_ONCE;
  show();
});
function begin() {
  read();
  draw();
}
addEventListener("hashchange", begin);
begin();
