"use strict";
// Draws the search table. Every text from a host or a file is set as text, never as markup.
(() => {
  const PAGE = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const { texts, kinds, rules, hosts, verdicts, severities } = data;
  const text = (place) => (place < 0 ? "" : texts[place]);
  const rows = data.rows.map((row, number) => {
    const [verdict, host, rule, where, reason, evidence, tree, note, waiver, print, fresh, before, after] = row;
    return { number, verdict, host: hosts[host], rule, where: text(where), reason: text(reason), evidence: text(evidence),
      tree, note: text(note), waiver: text(waiver), print, fresh, before, after };
  });
  const severity = (row) => (row.rule < 0 ? -1 : rules[row.rule][3]);
  const ruleName = (row) => (row.rule < 0 ? "" : `${rules[row.rule][0]}/${rules[row.rule][1]}`);
  const anchors = new Map();
  for (const row of rows) {
    const base = row.print || `row-${row.number}`;
    row.anchor = base;
    for (let again = 2; anchors.has(row.anchor); again += 1) row.anchor = `${base}-${again}`;
    anchors.set(row.anchor, row);
  }

  function element(name, content, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    for (const part of [content].flat()) if (part !== undefined && part !== "") made.append(part);
    return made;
  }
  const chip = (words, kind) => element("span", words, `chip ${kind}`);

  // ------------------------------------------------------------ what is shown

  const COLUMNS = [
    ["verdict", (row) => row.verdict],
    ["severity", (row) => (severity(row) < 0 ? 99 : severity(row))],
    ["host", (row) => row.host[0]],
    ["rule", ruleName],
    ["listener", (row) => row.where],
    ["reason", (row) => row.reason],
  ];
  const state = { filters: {}, sort: -1, down: false, page: 0, found: rows, open: new Set(), target: null };
  const form = document.getElementById("filters");
  const body = document.querySelector("#rows tbody");

  function haystack(row) {
    if (row.hay === undefined) {
      const said = [];
      const walk = (nodes) => {
        for (const [kind, pid, , words, , ...below] of nodes) {
          said.push(`${kinds[kind][0]}[${pid}]`, ...kinds[kind].slice(1), text(words));
          walk(below);
        }
      };
      walk(row.tree);
      const rule = row.rule < 0 ? [] : rules[row.rule];
      row.hay = [verdicts[row.verdict], row.host[0], row.host[1], ruleName(row), rule[2], rule[5], row.where, row.reason,
        row.evidence, row.note, row.waiver, row.print, ...said].join("\n").toLowerCase();
    }
    return row.hay;
  }

  function wanted() {
    const asked = Object.fromEntries(new FormData(form));
    const words = asked.text.toLowerCase().split(/\s+/).filter(Boolean);
    const host = asked.host.toLowerCase();
    return (row) =>
      (!asked.verdict || verdicts[row.verdict] === asked.verdict) &&
      (!asked.severity || severities[severity(row)] === asked.severity) &&
      (!asked.rule || ruleName(row) === asked.rule) &&
      (!asked.group || row.host[2].some((group) => text(group) === asked.group)) &&
      (!host || row.host[0].toLowerCase().includes(host)) &&
      words.every((word) => haystack(row).includes(word));
  }

  function select() {
    state.found = rows.filter(wanted());
    if (state.sort >= 0) {
      const key = COLUMNS[state.sort][1];
      const sign = state.down ? -1 : 1;
      state.found.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : a.number - b.number));
    }
    state.page = 0;
  }

  // ------------------------------------------------------------ drawing

  function drawTree(nodes, concern) {
    return element("ul", nodes.map(([kind, pid, mark, words, alike, ...below]) => {
      const [name, user, ...facts] = kinds[kind];
      const line = element("div", [element("b", name), `[${pid}] `]);
      if (alike) line.append(element("span", `and ${alike} alike `, "alike"));
      line.append(element("span", user, "user"));
      if (mark === 2) line.append(" ", element("strong", concern, "tag"));
      line.append(element("span", text(words) || "does not hold it", "words"));
      if (facts.length) line.append(element("span", facts.join(" · "), "facts"));
      const item = element("li", line, `node mark-${mark}`);
      if (below.length) item.append(drawTree(below, concern));
      return item;
    }));
  }

  function waiverText(row) {
    const name = row.host[0].includes(":") ? `[${row.host[0]}]` : row.host[0];
    return `${texts[row.before]}    hosts: "${name}"\n${texts[row.after]}    reason:\n    approved_by:\n    expires:\n`;
  }

  function waiverBox(row) {
    const box = element("div");
    const button = element("button", "copy as waiver");
    button.type = "button";
    const said = element("span", "", "small");
    said.setAttribute("role", "status");
    button.addEventListener("click", () => {
      let area = box.querySelector("textarea");
      if (!area) {
        area = element("textarea", waiverText(row));
        area.readOnly = true;
        area.rows = area.value.split("\n").length;
        area.setAttribute("aria-label", "An entry for a file of waivers");
        box.append(area);
      }
      area.select();
      const done = () => { said.textContent = " Copied. It loads once you have said why, who and until when."; };
      const byHand = () => { said.textContent = " Copy the selected text. It loads once you have said why, who and until when."; };
      if (navigator.clipboard) navigator.clipboard.writeText(area.value).then(done, byHand);
      else byHand();
    });
    box.append(button, said);
    return box;
  }

  function drawDetail(row) {
    const cell = element("td");
    cell.colSpan = COLUMNS.length;
    const facts = element("dl", [], "facts");
    const fact = (name, value) => {
      if (value) facts.append(element("div", [element("dt", name), element("dd", value)]));
    };
    const rule = row.rule < 0 ? ["", "", "", 0, "", "", "", ""] : rules[row.rule];
    fact("rule", rule[2]);
    fact("reason", row.reason);
    fact("waiver", row.waiver);
    fact("remedy", rule[4]);
    fact("controls", rule[5]);
    fact("references", rule[6]);
    fact("evidence", row.evidence);
    fact("host", [row.host[1], row.host[3] && `read at ${row.host[3]}`, row.host[2].length && `groups ${row.host[2].map(text).join(", ")}`].filter(Boolean).join(", "));
    fact("fingerprint", row.print);
    fact("policy", rule[7] && `sha256 ${rule[7]}`);
    cell.append(facts);
    const tree = element("div", [], "tree");
    const concern = { fail: "breaks the rule", waived: "is accepted" }[verdicts[row.verdict]] || "is in question";
    if (row.tree.length) tree.append(drawTree(row.tree, concern));
    if (row.note) tree.append(element("p", row.note, "small"));
    cell.append(tree);
    const link = element("a", "link to this finding");
    link.href = `#find=${encodeURIComponent(row.anchor)}`;
    cell.append(element("p", link, "small"));
    if (row.before !== undefined) cell.append(waiverBox(row));
    return element("tr", cell, "detail");
  }

  function drawRow(row) {
    const isOpen = state.open.has(row);
    const opener = element("button", row.host[0], "open");
    opener.type = "button";
    opener.setAttribute("aria-expanded", String(isOpen));
    opener.addEventListener("click", () => {
      if (!state.open.delete(row)) state.open.add(row);
      draw();
      document.getElementById(`open-${row.number}`).focus();
    });
    opener.id = `open-${row.number}`;
    const words = verdicts[row.verdict].replace("_", " ");
    const about = [chip(words, verdicts[row.verdict])];
    if (typeof row.fresh === "boolean") about.push(" ", chip(row.fresh ? "new" : "old", row.fresh ? "new" : "old"));
    const grave = severity(row) < 0 ? "" : chip(severities[severity(row)], severities[severity(row)]);
    const made = element("tr", [element("td", about), element("td", grave), element("td", opener), element("td", ruleName(row)),
      element("td", row.where ? element("code", row.where) : ""), element("td", row.reason)], state.target === row ? "target" : "");
    return isOpen ? [made, drawDetail(row)] : [made];
  }

  function drawHead() {
    const head = document.querySelector("#rows thead tr");
    head.replaceChildren(...COLUMNS.map(([name], place) => {
      const button = element("button", name);
      button.type = "button";
      button.addEventListener("click", () => {
        state.down = state.sort === place && !state.down;
        state.sort = place;
        select();
        draw();
        document.querySelectorAll("#rows thead button")[place].focus();
      });
      const cell = element("th", button);
      cell.scope = "col";
      if (state.sort === place) {
        cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        button.append(state.down ? " ▾" : " ▴");
      }
      return cell;
    }));
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
    const first = state.page * PAGE;
    drawHead();
    body.replaceChildren(...state.found.slice(first, first + PAGE).flatMap(drawRow));
    document.getElementById("count").textContent = `${state.found.length} of ${rows.length} findings`;
    document.getElementById("place").textContent = `page ${state.page + 1} of ${pages}`;
    document.getElementById("back").disabled = state.page === 0;
    document.getElementById("next").disabled = state.page + 1 >= pages;
  }

  // ------------------------------------------------------------ what a reader does

  function offer(name, values) {
    for (const value of values) {
      const option = element("option", value);
      option.value = value;
      form.elements[name].append(option);
    }
  }

  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const row = anchors.get(asked.get("find"));
    if (!row) return;
    form.reset();
    select();
    state.page = Math.floor(state.found.indexOf(row) / PAGE);
    state.open.add(row);
    state.target = row;
    draw();
    const opener = document.getElementById(`open-${row.number}`);
    opener.scrollIntoView({ block: "center" });
    opener.focus();
  }

  const used = (all, key) => [...new Set(all.map(key))].filter(Boolean);
  offer("verdict", verdicts.filter((_, place) => rows.some((row) => row.verdict === place)));
  offer("severity", severities.filter((_, place) => rows.some((row) => severity(row) === place)));
  offer("group", used(hosts.flatMap((host) => host[2]), text).sort());
  offer("rule", used(rows, ruleName).sort());
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { select(); draw(); }, 120);
  };
  form.addEventListener("input", later);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => {
    form.reset();
    select();
    draw();
  });
  for (const [id, step] of [["back", -1], ["next", 1]]) {
    document.getElementById(id).addEventListener("click", () => {
      state.page += step;
      draw();
      document.getElementById("rows").scrollIntoView({ block: "start" });
    });
  }
  window.addEventListener("hashchange", follow);
  document.getElementById("scriptless").hidden = true;
  document.getElementById("table").hidden = false;
  select();
  draw();
  follow();
  document.documentElement.dataset.ready = "yes";
})();
