(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const records = JSON.parse(document.getElementById("records").textContent);
  const measures = new Map(Object.entries(JSON.parse(document.getElementById("run").dataset.measures)));
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));
  const MINUS = "\u2212";

  // Everything that comes from records enters the page as text, never as markup.
  function make(tag, options, ...children) {
    const svg = ["svg", "polyline", "line", "circle", "text"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(options || {})) {
      if (name === "style") Object.assign(node.style, value);
      else node.setAttribute(name, value);
    }
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
  function points(value) {
    if (value === null || value === undefined) return "–";
    const text = (100 * value).toFixed(1);
    if (Number(text) === 0) return "0.0";
    return value > 0 ? "+" + text : text.replace("-", MINUS);
  }

  // a word of a command line, as a shell of Unix takes it
  const quoted = (word) => (/^[\w@%+=:,.\/-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\"'\"'") + "'");

  // ---- theme, filters, sorting ----
  function remembered(value) {
    try {
      if (value !== undefined) localStorage.setItem("board-theme", value);
      return localStorage.getItem("board-theme");
    } catch (error) { return null; }  // some browsers keep nothing for files
  }
  const theme = document.getElementById("theme");
  function setTheme(name) {
    root.dataset.theme = name;
    theme.textContent = name === "dark" ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(name === "dark"));
  }
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const kept = remembered();
  setTheme(kept === "dark" || kept === "light" ? kept : system);
  theme.addEventListener("click", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    setTheme(next);
    remembered(next);
  });

  const settings = document.getElementById("settings");
  const stream = document.getElementById("stream");
  const backbone = document.getElementById("backbone");
  function filter() {
    const methods = new Set(all('input[name="method"]:checked').map((box) => box.value));
    let rows = 0, total = 0;
    for (const section of all("section.comparison")) {
      const off = (stream && stream.value && section.dataset.stream !== stream.value)
        || (backbone && backbone.value && section.dataset.backbone !== backbone.value);
      section.classList.toggle("off", Boolean(off));
      for (const body of all(".board tbody", section)) {
        const hidden = !methods.has(body.dataset.method)
          || (settings.value === "chosen" && body.dataset.chosen !== "yes");
        body.classList.toggle("off", hidden);
        total += 1;
        if (!hidden && !off) rows += 1;
      }
      for (const item of all(".findings li[data-method]", section)) item.hidden = !methods.has(item.dataset.method);
      const drawnMethods = all(".plot .method", section);
      for (const line of all(".plot .front", section)) {  // it is of all methods
        line.classList.toggle("gone", drawnMethods.some((group) => !methods.has(group.dataset.method)));
      }
      section.querySelector(".none").hidden = all(".board tbody:not(.off)", section).length > 0;
      for (const group of drawnMethods) {
        group.classList.toggle("off", !methods.has(group.dataset.method));
      }
    }
    document.getElementById("shown").textContent = rows + " of " + total + " rows shown.";
    hintCut();
  }
  document.getElementById("filters").hidden = false;
  for (const control of [settings, stream, backbone, ...all('input[name="method"]')]) {
    if (control) control.addEventListener("change", filter);
  }
  filter();

  const NAMES = new Intl.Collator("en", { numeric: true });
  function sortBy(button, always) {
    const table = button.closest("table"), head = button.closest("th"), key = button.dataset.key;
    const best = button.dataset.better === "more" ? "descending" : "ascending";
    const other = best === "descending" ? "ascending" : "descending";
    const direction = !always && head.getAttribute("aria-sort") === best ? other : best;
    for (const th of all("thead th", table)) th.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const bodies = all("tbody", table).map((body, place) => ({ body, place, own: JSON.parse(body.dataset.sort) }));
    bodies.sort((a, b) => {
      const ranked = (b.body.dataset.ranked === "yes") - (a.body.dataset.ranked === "yes");
      if (ranked) return ranked;  // what is not ranked stays below, whatever the order
      const x = a.own[key], y = b.own[key];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      const order = typeof x === "string" ? NAMES.compare(x, y) : x - y;
      return sign * order || a.place - b.place;
    });
    for (const { body } of bodies) table.append(body);
  }
  for (const button of all(".sort")) button.addEventListener("click", () => sortBy(button, false));
  const order = document.getElementById("sort");
  const listed = all("table.board").map((table) => [table, all("tbody", table)]);
  order.addEventListener("change", () => {
    for (const [table, bodies] of listed) {
      for (const th of all("thead th", table)) th.setAttribute("aria-sort", "none");
      const button = all(".sort", table).find((one) => one.dataset.key === order.value);
      if (button) sortBy(button, true);
      else for (const body of bodies) table.append(body);
    }
  });

  // ---- tables that are wider than the screen ----
  function hintCut() {
    for (const box of all(".scroll")) {
      const left = box.scrollWidth - box.clientWidth;
      box.classList.toggle("cut", left - box.scrollLeft > 1);
      box.previousElementSibling.hidden = left <= 1;
    }
  }
  for (const box of all(".scroll")) box.addEventListener("scroll", hintCut);
  addEventListener("resize", hintCut);

  function openRow(button, open) {
    button.setAttribute("aria-expanded", String(open));
    document.getElementById(button.getAttribute("aria-controls")).classList.toggle("shown", open);
  }
  for (const button of all(".toggle")) {
    button.addEventListener("click", () => openRow(button, button.getAttribute("aria-expanded") !== "true"));
  }

  // ---- one run ----
  function heat(value) {
    return value === null ? {} : { backgroundColor: "rgba(var(--heat), " + (0.05 + 0.4 * value).toFixed(3) + ")" };
  }
  function table(caption, head, rows, options) {
    const made = make("table", { class: "small" }, caption ? make("caption", {}, caption) : null);
    if (head.some(Boolean)) made.append(make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))));
    const body = make("tbody");
    for (const [name, ...values] of rows) {
      const cells = values.map((value) => {
        const shown = options && options.show ? options.show(value) : value;
        const attributes = { style: options && options.heat ? heat(value) : {} };
        if (options && options.words) attributes.class = "word";
        return make("td", attributes, shown === null || shown === undefined ? "–" : String(shown));
      });
      body.append(make("tr", {}, make("th", { scope: "row" }, name), ...cells));
    }
    made.append(body);
    return make("div", { class: "wide" }, made);
  }
  function curves(about, lines, low, high, labels, show) {
    const w = 460, h = 190, left = 40, right = 14, top = 10, bottom = 26;
    if (!(high > low)) [low, high] = [Math.max(0, low - 0.1), Math.min(1, low + 0.1)];
    const count = labels.length, every = Math.ceil(count / 12);
    const x = (k) => left + (count > 1 ? (k * (w - left - right)) / (count - 1) : 0);
    const y = (v) => h - bottom - ((v - low) / (high - low)) * (h - top - bottom);
    const svg = make("svg", { class: "curve", viewBox: "0 0 " + w + " " + h, role: "img", "aria-label": about });
    for (const value of [low, (low + high) / 2, high]) {
      svg.append(make("line", { x1: left, x2: w - right, y1: y(value), y2: y(value) }));
      svg.append(make("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, show(value)));
    }
    labels.forEach((label, k) => {
      if (k % every === 0) svg.append(make("text", { x: x(k), y: h - 8, "text-anchor": "middle" }, label));
    });
    const legend = make("ul", { class: "legend" });
    lines.forEach((line, k) => {
      // colours repeat after nine lines; dashes then tell them apart
      const colour = "own line-" + (k % 9), dashes = ["none", "6 3", "2 3"][Math.floor(k / 9) % 3];
      const known = line.values.map((v, t) => [t, v]).filter(([, v]) => v !== null && v !== undefined);
      if (!known.length) return;
      svg.append(make("polyline", { class: colour, points: known.map(([t, v]) => x(t) + "," + y(v)).join(" "), style: { strokeDasharray: dashes } }));
      for (const [t, v] of known) svg.append(make("circle", { cx: x(t), cy: y(v), r: 2.5, class: colour }));
      legend.append(make("li", {}, make("span", { class: "dot " + colour, "aria-hidden": "true" }), line.name));
    });
    return make("div", {}, svg, legend);
  }
  function part(title, ...children) {
    return make("div", {}, make("h3", {}, title), ...children.filter(Boolean));
  }
  function matrixPart(record) {
    const names = record.stream.experiences, R = record.outcome.accuracy;
    const rows = R.map((row, t) => [t === 0 ? "before" : "after " + names[t - 1], ...row]);
    return part("Accuracy matrix",
      table("Test accuracy (%) on each data set, after learning each; –: it has no head yet", ["", ...names], rows, { show: percent, heat: true }));
  }
  function curvePart(record) {
    const names = record.stream.experiences, R = record.outcome.accuracy;
    const values = R.flat().filter((v) => v !== null);
    const low = Math.floor(10 * Math.min(...values)) / 10, high = Math.min(1, Math.ceil(10 * Math.max(...values)) / 10);
    const lines = names.map((name, j) => ({ name, values: R.map((row, t) => (t > j || row[j] !== null ? row[j] : null)) }));
    return part("Accuracy on each data set, as the stream goes on",
      curves("Accuracy by experience; the same numbers are in the matrix", lines, low, high, R.map((_, t) => String(t)), percent),
      make("p", { class: "muted" }, "Across: how many data sets were learnt; upwards: test accuracy (%)."));
  }
  function panelPart(record) {
    const moments = record.outcome.panel;
    if (!moments.length) return part("Panel", make("p", {}, "This run had no panel."));
    const first = moments[0], last = moments[moments.length - 1], parts = [];
    for (const [key, title] of [["linear_probe", "Linear probe"], ["zero_shot", "Zero-shot"]]) {
      if (!first[key] || !last[key]) continue;
      const rows = Object.keys(first[key].test).map((name) => {
        const steps = moments.map((moment) => percent(moment[key].test[name]));
        return [name, points(last[key].test[name] - first[key].test[name]), ...steps];
      });
      const heads = moments.map((moment) => (moment.after === 0 ? "before" : "after " + moment.after));
      parts.push(table(title + ", test accuracy (%)", ["", "change", ...heads], rows));
    }
    const without = Object.entries(record.panel).filter(([, set]) => set.no_zero_shot);
    for (const [name, set] of without) parts.push(make("p", { class: "muted" }, name + " has no zero-shot accuracy: " + set.no_zero_shot));
    return part("Panel: data sets that were never tuned on", ...parts);
  }
  function driftPart(record) {
    const moments = record.outcome.panel.filter((moment) => moment.after > 0);
    if (!moments.length) return null;
    const drift = moments[moments.length - 1].drift;
    const held = new Set(Object.values(drift).flatMap((set) => Object.keys(set)));
    const known = [...measures.keys()].filter((key) => held.has(key));
    const keys = [...known, ...[...held].filter((key) => !measures.has(key))];
    const title = (key) => (measures.has(key) ? measures.get(key).title : key);
    const unmoved = known.map((key) => title(key) + " " + measures.get(key).unmoved).join(", ");
    const caption = "At the end, since pre-training" + (known.length ? "; where nothing moved: " + unmoved : "");
    const show = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
    const rows = Object.entries(drift).map(([name, set]) => [name, ...keys.map((key) => set[key])]);
    return part("How far features drifted", table(caption, ["", ...keys.map(title)], rows, { show }));
  }
  function lossPart(record) {
    const names = [...new Set(record.outcome.loss_terms.flatMap((terms) => Object.keys(terms)))];
    const experiences = record.stream.experiences;
    const show = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString());
    const head = [""];
    record.outcome.loss_terms.forEach((terms, t) => {
      const epochs = Math.max(...Object.values(terms).map((values) => values.length), 0);
      for (let e = 0; e < epochs; e += 1) head.push(experiences[t] + " " + (e + 1));
    });
    const rows = names.map((name) => [name, ...record.outcome.loss_terms.flatMap((terms) => {
      const epochs = Math.max(...Object.values(terms).map((values) => values.length), 0);
      return Array.from({ length: epochs }, (_, e) => (terms[name] && terms[name].length > e ? terms[name][e] : null));
    })]);
    return part("Loss terms", table("Mean over each epoch", head, rows, { show }));
  }
  function kernels(cpu) {  // older records do not have the processor in full
    if (!cpu) return "";
    const [family, model, stepping] = [cpu.family, cpu.model, cpu.stepping].map((part) => (part === null ? "unknown" : part));
    return " (family " + family + ", model " + model + ", stepping " + stepping + "; kernels " + cpu.torch_capability + ", " + cpu.blas + ")";
  }
  function costPart(record) {
    const c = record.cost, m = record.how.machine, mib = (v) => (v === null ? "–" : Math.round(v / 1048576) + " MiB");
    const rows = [
      ["whole run", c.seconds.toFixed(1) + " s"], ["training", c.train_seconds.toFixed(1) + " s"],
      ["a step (median)", (1000 * c.seconds_per_step).toFixed(0) + " ms"], ["steps", c.steps],
      ["images a second", c.train_seconds ? (c.samples / c.train_seconds).toFixed(0) : "–"],
      ["forwards: student, teacher", c.student_forwards + ", " + c.teacher_forwards],
      ["memory: process, GPU", mib(c.peak_rss_bytes) + ", " + mib(c.peak_gpu_bytes)],
      ["parameters: trained, stored", c.parameters_trained + ", " + c.parameters_stored],
      ["machine", m.processor + kernels(m.cpu) + ", " + m.cores + " cores, " + m.threads + " thread(s), " + m.jobs + " run(s) at a time; " + m.device],
    ];
    return part("Cost", table("", ["", ""], rows, { words: true }));
  }
  function originPart(record, id) {
    const how = record.how, chosen = record.selection;
    const rows = [
      ["run", id], ["status", record.status + (record.reason ? ": " + record.reason : "")],
      ["commit", (how.code.commit || "unknown") + (how.code.changed ? " (with changes that were not committed)" : "")],
      ["command", how.command.map(quoted).join(" ")],
      ["setting", chosen.data === "validation" ? "one of " + chosen.settings + " that validation data choose from" : "as the recipe gives it"],
      ["versions", Object.entries(how.versions).map(([name, value]) => name + " " + value).join(", ")],
    ];
    if (record.stream) rows.push(["split", record.stream.split_sha256]);
    for (const [name, hash] of Object.entries(record.artefacts)) rows.push(["artefact", name + " " + hash]);
    return part("Where it comes from", table("", ["", ""], rows, { words: true }));
  }

  // The run's own figures, from the tables below them.
  function fourPart(record) {
    const R = record.outcome.accuracy, end = R[R.length - 1], counts = record.stream.test;
    const byImage = record.stream.weighted_by === "image";
    const weights = end.map((_, j) => (byImage ? counts[j] : 1)), sum = (list) => list.reduce((a, b) => a + b, 0);
    const found = [["Last, the last row's mean", percent(sum(end.map((v, j) => v * weights[j])) / sum(weights))]];
    if (end.length > 1) {
      const drops = end.slice(0, -1).map((v, j) => R[j + 1][j] - v);
      found.push(["Forgetting, diagonal minus last row", (100 * (sum(drops) / drops.length)).toFixed(1).replace("-", MINUS)]);
    }
    const moments = record.outcome.panel;
    for (const [key, title] of [["linear_probe", "Δ_LP"], ["zero_shot", "Δ_ZS"]]) {
      const first = moments.length && moments[0][key], last = moments.length && moments[moments.length - 1][key];
      if (!first || !last) continue;
      const changes = Object.keys(first.test).map((name) => last.test[name] - first.test[name]);
      if (changes.length) found.push([title + ", mean change", points(sum(changes) / changes.length)]);
    }
    return make("div", { class: "four" }, ...found.map(([name, value]) => make("span", {}, make("b", {}, value), " " + name)));
  }

  const dialog = document.getElementById("run");
  let asker = null;
  function showRun(id) {
    if (!Object.hasOwn(records, id)) return;
    const text = records[id] + "\n", record = JSON.parse(text);
    const body = document.getElementById("run-body"), config = record.how.config;
    document.getElementById("run-title").textContent =
      config.method + (config.strength === null ? "" : " " + config.strength) + ", seed " + config.seed;
    const inner = record.status === "finished"
      ? [matrixPart, curvePart, panelPart, driftPart, lossPart, costPart].map((makePart) => makePart(record)).filter(Boolean)
      : [];
    const save = make("a", { href: "data:application/json;charset=utf-8," + encodeURIComponent(text), download: id.slice(0, 12) + ".json" }, "Save this record");
    const again = make("p", { class: "muted" }, "To check it: save this record, then ", make("code", {}, "python -m benchmarks rerun " + id.slice(0, 12) + ".json"));
    body.replaceChildren(
      ...(record.status === "finished" ? [fourPart(record)] : []),
      make("div", { class: "parts" }, ...inner, originPart(record, id)),
      make("p", {}, save), again,
      make("details", {}, make("summary", {}, "The record itself"), make("pre", { tabindex: "0" }, JSON.stringify(record, null, 1))));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  function follow() {
    const [, kind, id] = location.hash.match(/^#(run|row)-([0-9a-f]+)$/) || [];
    if (kind !== "run" && dialog.open) dialog.close();
    if (kind === "run") showRun(id);
    for (const body of all("tbody.target")) body.classList.remove("target");
    if (kind === "row") {
      const body = document.getElementById("row-" + id);
      if (!body) return;
      if (body.dataset.chosen !== "yes") { settings.value = "all"; filter(); }
      body.classList.add("target");
      openRow(body.querySelector(".toggle"), true);
      body.scrollIntoView({ block: "center" });
      body.querySelector(".toggle").focus({ preventScroll: true });
    }
  }
  for (const button of all(".run")) {
    button.addEventListener("click", () => { asker = button; location.hash = "run-" + button.dataset.run; });
  }
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#run-")) history.replaceState(null, "", location.pathname + location.search);
    if (asker) asker.focus();
  });
  addEventListener("hashchange", follow);
  follow();
})();
