// The form of a rule: what the server keeps as one table, drawn as fields. The server alone decides what is valid; its
// answer names the place, such as rule.when.all[1].equals, and the message is shown there.
"use strict";

(() => {
  const editor = document.getElementById("rule-editor");
  const definition = JSON.parse(document.getElementById("rule-definition").textContent);
  const operators = JSON.parse(document.getElementById("rule-operators").textContent);
  const readonly = editor.dataset.readonly === "yes";
  const root = document.getElementById("conditions");
  const GROUPS = { all: "all of these hold", any: "any of these holds", not: "this does not hold" };
  const LISTS = ["one_of", "between"];

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // A condition is one table; a node is what the form keeps of it: {kind, attribute, value, children}.
  function nodeOf(table) {
    for (const kind of ["all", "any"]) if (kind in table) return { kind, children: table[kind].map(nodeOf) };
    if ("not" in table) return { kind: "not", children: [nodeOf(table.not)] };
    const kind = operators.find((word) => word in table) || "equals";
    const value = table[kind] ?? "";
    return { kind, attribute: table.attribute || "", value: Array.isArray(value) ? value.join(", ") : String(value) };
  }

  function valueOf(text, kind) {
    const one = (part) => {
      const trimmed = part.trim();
      return trimmed !== "" && !Number.isNaN(Number(trimmed)) ? Number(trimmed) : trimmed;
    };
    if (kind === "exists") return text.trim() !== "false";
    if (LISTS.includes(kind)) return text.split(",").map(one);
    return ["regex", "glob", "contains", "in_network"].includes(kind) ? text : one(text);
  }

  function tableOf(node) {
    if (node.kind === "not") return { not: tableOf(node.children[0] || { kind: "all", children: [] }) };
    if (node.kind in GROUPS) return { [node.kind]: node.children.map(tableOf) };
    return { attribute: node.attribute, [node.kind]: valueOf(node.value, node.kind) };
  }

  let tree = nodeOf(definition.when || { all: [] });
  if (!(tree.kind in GROUPS)) tree = { kind: "all", children: [tree] };

  function choice(options, chosen, label, changed) {
    const select = make("select", { disabled: readonly });
    select.setAttribute("aria-label", label);
    for (const [value, words] of options) select.append(make("option", { value, textContent: words, selected: value === chosen }));
    select.addEventListener("change", () => changed(select.value));
    return select;
  }

  function button(words, label, action) {
    const one = make("button", { type: "button", className: "quiet small", textContent: words });
    one.setAttribute("aria-label", label);
    one.addEventListener("click", () => { action(); draw(); });
    return one;
  }

  function field(value, label, changed, list) {
    const input = make("input", { value, disabled: readonly });
    input.setAttribute("aria-label", label);
    if (list) input.setAttribute("list", list);
    input.addEventListener("input", () => { changed(input.value); remember(); });
    return input;
  }

  function problemAt(place) {
    const words = make("p", { className: "problem", hidden: true });
    words.dataset.place = place;
    return words;
  }

  function drawNode(node, siblings, place) {
    const item = make("li", {});
    const tools = make("span", { className: "tools" });
    if (siblings && !readonly) {
      const at = siblings.indexOf(node);
      const name = node.attribute || GROUPS[node.kind] || "condition";
      if (at > 0) tools.append(button("↑", `Move ${name} up`, () => siblings.splice(at - 1, 0, siblings.splice(at, 1)[0])));
      tools.append(button("✕", `Remove ${name}`, () => siblings.splice(at, 1)));
    }
    if (!(node.kind in GROUPS)) {
      item.append(
        field(node.attribute, "Attribute", (text) => { node.attribute = text; }, "keywords"),
        choice(operators.map((word) => [word, word.replace("_", " ")]), node.kind, "Comparison", (kind) => { node.kind = kind; remember(); }),
        field(node.value, LISTS.includes(node.kind) ? "Values, between commas" : "Value", (text) => { node.value = text; }),
        tools, problemAt(`${place}.attribute`), problemAt(`${place}.${node.kind}`), problemAt(place));
      return item;
    }
    item.append(choice(Object.entries(GROUPS), node.kind, "Group", (kind) => {
      node.kind = kind;
      if (kind === "not") node.children = node.children.slice(0, 1);
      draw();
    }), tools, problemAt(place), problemAt(`${place}.${node.kind}`));
    const list = make("ul", { className: "conditions" });
    node.children.forEach((child, at) => list.append(
      drawNode(child, node.children, node.kind === "not" ? `${place}.not` : `${place}.${node.kind}[${at}]`)));
    if (!readonly && (node.kind !== "not" || node.children.length === 0)) {
      list.append(make("li", {},
        button("+ condition", "Add a condition", () => node.children.push({ kind: "equals", attribute: "", value: "" })),
        button("+ group", "Add a group", () => node.children.push({ kind: "any", children: [] }))));
    }
    item.append(list);
    return item;
  }

  function draw() {
    root.replaceChildren(make("ul", { className: "conditions editor" }, drawNode(tree, null, "rule.when")));
    remember();
  }

  function current() {
    const rule = { ...definition, when: tableOf(tree) };
    if (definition.inputs && tree.children && tree.children.length === 0) delete rule.when;
    for (const input of editor.querySelectorAll("[data-key]")) {
      rule[input.dataset.key] = input.type === "checkbox" ? input.checked : input.value;
    }
    rule.destinations = [...editor.querySelectorAll("[data-destination]:checked")].map((box) => box.dataset.destination);
    return rule;
  }

  // Every form of the page that sends the rule sends what the fields say now.
  function remember() {
    const text = JSON.stringify(current());
    for (const hidden of document.querySelectorAll("[data-definition]")) hidden.value = text;
  }

  function show(problem) {
    for (const words of editor.querySelectorAll("[data-place]")) words.hidden = true;
    const overall = document.getElementById("rule-problem");
    overall.hidden = true;
    if (!problem) return;
    const place = problem.split(":")[0].replace(/^rule\.(?!when)/, "");
    // what names no place names the value that it found
    const quoted = /found '([^']*)'/.exec(problem);
    const holder = quoted && [...root.querySelectorAll("input")].find((input) => input.value === quoted[1]);
    const there = editor.querySelector(`[data-place="${CSS.escape(place)}"]`)
      || (holder && holder.closest("li").querySelector("[data-place]")) || overall;
    there.textContent = problem.slice(problem.indexOf(":") + 1).trim();
    there.hidden = false;
  }

  // the server has drawn their values: whoever is faster than this script loses nothing
  for (const input of editor.querySelectorAll("[data-key], [data-destination]")) {
    input.disabled = readonly;
    input.addEventListener("input", remember);
  }
  document.body.addEventListener("htmx:afterSwap", (event) => {
    const said = event.target.querySelector("[data-problem]");
    show(said ? said.dataset.problem : "");
  });
  // A page that is left with changes that nothing kept says so.
  let kept = false;
  document.addEventListener("submit", () => { kept = true; });
  addEventListener("beforeunload", (event) => {
    if (!readonly && !kept && changed) event.preventDefault();
  });
  let changed = false;
  editor.addEventListener("input", () => { changed = true; });
  draw();
})();
