// Elements. Whatever comes from data goes in as text or as an attribute's value: never as markup.

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function element(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const h = (tag, attributes = {}, ...children) => element(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => element(document.createElementNS(SVG, tag), attributes, children);

function put(place, ...children) {
  place.replaceChildren(...children.flat(3).filter(Boolean));
}

// Rows of cells, text or nodes. `heads` are {text, number, wide}: numbers stand to the right, wide ones not on phones.
function table(caption, heads, rows) {
  const kind = (head) => [head.number && "number", head.wide && "wide"].filter(Boolean).join(" ") || null;
  const headCells = heads.map((head) => h("th", { scope: "col", class: kind(head) }, head.text));
  const cells = (row) => row.map((content, i) => h("td", { class: kind(heads[i]) }, content));
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      caption ? h("caption", {}, caption) : null,
      h("thead", {}, h("tr", {}, headCells)),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells(row))),
      ),
    ),
  );
}

const folded = (summary, ...children) => h("details", {}, h("summary", {}, summary), ...children);
const mark = (holds) => h("span", { class: "mark " + (holds ? "yes" : "no") }, holds ? "✓" : "✗");
const verdictLine = (holds, text) => h("li", {}, mark(holds), text);
const full = (hash) => "0x" + hash.replace(/^0x/, "");

// What is now, in red where it isn't what was, with the old value beside it.
function compared(now, was) {
  if (now === was) return [now];
  return [h("span", { class: "changed-text" }, now), h("del", {}, h("span", { class: "unseen" }, "before: "), was)];
}

// Draws now and whenever the width of its place has changed.
function drawn(place, draw) {
  let width = 0;
  const redraw = () => {
    const now = Math.floor(place.clientWidth);
    if (now && now !== width) {
      width = now;
      put(place, draw(width));
    }
  };
  redraw();
  new ResizeObserver(redraw).observe(place);
}
