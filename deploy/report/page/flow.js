// The picture of where money comes from and goes: customers who paid before, machines, kinds of machines, people. Widths
// are shares of all that was granted; what goes back to customers passes by the machines.

const FLOW_MACHINES = 12;
const FLOW_PEOPLE = 9;
const FLOW_CUSTOMERS = 5;
const NODE_WIDTH = 10;
const COLUMN = { customers: 0, machines: 1, kinds: 2, people: 3 };

const PSEUDO = { held: "Held back for low trust", outside: "Has no account yet", "(others)": "All others" };

function personName(data, account) {
  const name = PSEUDO[account] ?? data.names[account] ?? (account.startsWith("0x") ? shortHash(account) : account);
  return data.suppliers.includes(account) && !data.names[account] ? "Supplier " + name : name;
}

// The columns for which there is room.
function flowColumns(data, width) {
  const columns = width > 620 ? [COLUMN.machines, COLUMN.kinds, COLUMN.people] : [COLUMN.kinds, COLUMN.people];
  if (!data.customers.length || width <= 620) return columns;
  return width > 900 ? [COLUMN.customers, ...columns] : [COLUMN.customers, COLUMN.kinds, COLUMN.people];
}

// Nodes and links of the picture: nodes are {key, name, value, color, column}, links {from, to, value, color}.
function flowGraph(data, colors, columns) {
  const sums = new Map();
  const add = (from, to, micros, color) => {
    const key = from + "\n" + to;
    const link = sums.get(key) ?? { from, to, micros: 0n, color };
    link.micros += micros;
    sums.set(key, link);
  };
  const nodes = new Map();
  const node = (key, column, name, color) => {
    if (!nodes.has(key)) nodes.set(key, { key, column, name, color, micros: 0n });
    return key;
  };
  const people = new Map();
  for (const [, account, micros] of data.flows) people.set(account, (people.get(account) ?? 0) + Number(micros));
  const known = [...people]
    .sort((a, b) => b[1] - a[1])
    .slice(0, FLOW_PEOPLE)
    .map(([account]) => account);
  const machines = new Map();
  for (const [at, , micros] of data.flows) machines.set(at, (machines.get(at) ?? 0) + Number(micros));
  const shown = new Set();
  const each = Math.min(4, Math.max(1, Math.round(FLOW_MACHINES / colors.size)));
  for (const kind of colors.keys()) {
    const own = [...machines].filter(([at]) => data.machines[at].kind === kind).sort((a, b) => b[1] - a[1]);
    own.slice(0, each).forEach(([at]) => shown.add(at));
  }
  for (const [at, account, text] of data.flows) {
    const micros = BigInt(text);
    if (micros <= 0n) continue;
    const { kind, machine } = data.machines[at];
    const color = colors.get(kind);
    const person = known.includes(account) ? account : "\0rest";
    const to = node(
      "p" + person,
      COLUMN.people,
      person === "\0rest" ? people.size - known.length + " others" : personName(data, person),
    );
    const middle = node("k" + kind, COLUMN.kinds, kindName(kind), color);
    add(middle, to, micros, color);
    if (columns.includes(COLUMN.machines)) {
      const from = shown.has(at) ? node("m" + at, COLUMN.machines, machine, color) : node("o" + kind, COLUMN.machines, "", color);
      add(from, middle, micros, color);
    }
  }
  if (columns.includes(COLUMN.customers)) addCustomers(data, colors, { nodes, node, add, shown });
  for (const kind of colors.keys()) {
    const rest = [...machines.keys()].filter((at) => data.machines[at].kind === kind && !shown.has(at)).length;
    if (nodes.has("o" + kind)) nodes.get("o" + kind).name = rest + " other" + (rest === 1 ? "" : "s");
  }
  return { nodes, links: [...sums.values()] };
}

// What customers paid before: to the machines what these kept, and back what they did not use.
function addCustomers(data, colors, { nodes, node, add, shown }) {
  const sums = new Map();
  for (const [, payer, kept, refund] of data.customers)
    sums.set(payer, (sums.get(payer) ?? 0) + Number(kept) + Number(refund));
  const known = [...sums].sort((a, b) => b[1] - a[1]).slice(0, FLOW_CUSTOMERS).map(([payer]) => payer);
  for (const [at, payer, kept, refund] of data.customers) {
    const { kind } = data.machines[at];
    const isKnown = known.includes(payer);
    const name = isKnown ? personName(data, payer) : sums.size - known.length + " other customers";
    const from = node("c" + (isKnown ? payer : "\0rest"), COLUMN.customers, name, colors.get(kind));
    const to = ["m" + at, "o" + kind, "k" + kind].find((key) => nodes.has(key) && (key[0] !== "m" || shown.has(at)));
    if (to && BigInt(kept) > 0n) add(from, to, BigInt(kept), colors.get(kind));
    if (BigInt(refund) > 0n) add(from, node("pback", COLUMN.people, "Back to customers"), BigInt(refund));
  }
}

// Gives each node its place: x, y, height; columns are ordered by kind, then by amount.
function layFlow(graph, width, height, columns) {
  const kindOrder = [...graph.nodes.values()].filter((n) => n.column === COLUMN.kinds).sort((a, b) => b.value - a.value);
  const rank = new Map(kindOrder.map((n, i) => [n.color, i]));
  const byColumn = columns.map((column) => [...graph.nodes.values()].filter((n) => n.column === column));
  const total = Math.max(...byColumn.map((list) => list.reduce((sum, n) => sum + n.value, 0)));
  const least = (n) => (n.column === COLUMN.machines ? 16 : 34); // room for its label
  const crowd = Math.max(...byColumn.map((list) => list.reduce((sum, n) => sum + least(n), 0)));
  const scale = Math.max(60, height - 20 - crowd) / total;
  byColumn.forEach((list, i) => {
    list.sort(
      (a, b) =>
        (rank.get(a.color) ?? 0) - (rank.get(b.color) ?? 0) ||
        (a.key[0] === "o") - (b.key[0] === "o") ||
        b.value - a.value,
    );
    for (const n of list) n.height = Math.max(1.5, n.value * scale);
    const room = (n) => Math.max(n.height + 8, least(n));
    const used = list.reduce((sum, n) => sum + room(n), 0);
    const own = list.length > 1 ? Math.min(40, (height - 20 - used) / (list.length - 1)) : 0;
    let y = 10 + (height - 20 - used - own * (list.length - 1)) / 2;
    for (const n of list) {
      const x = (i * (width - NODE_WIDTH)) / (columns.length - 1);
      Object.assign(n, { x, y: y + (room(n) - n.height) / 2, in: 0, out: 0 });
      y += room(n) + own;
    }
  });
  return scale;
}

function flowChart(width, data, colors) {
  const columns = flowColumns(data, width);
  const isWide = columns.length > 2;
  const graph = flowGraph(data, colors, columns);
  for (const link of graph.links) {
    const [from, to] = [graph.nodes.get(link.from), graph.nodes.get(link.to)];
    from.micros += link.micros;
    if (to.column === COLUMN.people) to.micros += link.micros;
  }
  // Currency units, for drawing only.
  for (const part of [...graph.links, ...graph.nodes.values()]) part.value = Number(part.micros) / 1e6;
  const margin = isWide ? 168 : 0;
  const height = isWide ? 430 : 330;
  const scale = layFlow(graph, width - 2 * margin, height, columns);
  const list = [...graph.nodes.values()];
  const picture = s("svg", {
    viewBox: "0 0 " + width + " " + height,
    role: "img",
    "aria-label":
      (columns[0] === COLUMN.customers ? "Money from customers to machines and from these to people: " : "Money from machines to people: ") +
      list
        .filter((n) => n.column !== COLUMN.machines)
        .map((n) => n.name + " " + money(n.micros))
        .join(", "),
  });
  const order = (link) => [graph.nodes.get(link.from).y, graph.nodes.get(link.to).y];
  graph.links.sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1]);
  for (const link of graph.links) {
    const [from, to] = [graph.nodes.get(link.from), graph.nodes.get(link.to)];
    const thick = Math.max(1, link.value * scale);
    const [x1, x2] = [margin + from.x + NODE_WIDTH, margin + to.x];
    const [y1, y2, bend] = [from.y + from.out, to.y + to.in, (x2 - x1) / 2];
    from.out += link.value * scale;
    to.in += link.value * scale;
    const path =
      `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}v${thick}` +
      `C${x2 - bend},${y2 + thick} ${x1 + bend},${y1 + thick} ${x1},${y1 + thick}z`;
    picture.append(
      s(
        "path",
        { d: path, class: link.color === undefined ? "band back" : "band k" + link.color },
        s("title", {}, from.name + " to " + to.name + ": " + money(link.micros)),
      ),
    );
  }
  for (const n of list) {
    const x = margin + n.x;
    picture.append(
      s("rect", {
        class: n.column === COLUMN.people || n.column === COLUMN.customers ? "payee" : "k" + n.color,
        x,
        y: n.y,
        width: NODE_WIDTH,
        height: n.height,
        rx: 1.5,
      }),
    );
    picture.append(flowLabel(n, x, columns, data.log.currency));
  }
  return picture;
}

// Beside its node: people on the right in the margin, the first column of a wide picture on the left, others inside.
function flowLabel(n, x, columns, currency) {
  const isWide = columns.length > 2;
  const isLeft = isWide && n.column === columns[0];
  const isRight = isWide && n.column === COLUMN.people;
  const toTheLeft = isLeft || n.column === COLUMN.people && !isWide;
  const at = toTheLeft ? x - 6 : x + NODE_WIDTH + 6;
  const middle = n.y + n.height / 2 + 4;
  const amount = money(n.micros);
  const room = isLeft ? 17 : 24;
  const name = n.name.length > room ? n.name.slice(0, room - 1) + "…" : n.name;
  const look = { x: at, "text-anchor": toTheLeft ? "end" : "start", class: isLeft || isRight ? null : "halo" };
  const title = name === n.name ? [] : [s("title", {}, n.name)];
  if (n.column === COLUMN.machines)
    return s("text", { ...look, y: middle }, ...title, name + " ", s("tspan", { class: "quiet" }, amount));
  return s(
    "text",
    { ...look, y: middle - 7 },
    ...title,
    s("tspan", { class: "strong" }, name),
    s("tspan", { x: at, dy: 15, class: "quiet" }, amount + " " + currency),
  );
}

function flowTable(data) {
  const sums = new Map();
  for (const [at, account, micros] of data.flows) {
    const key = data.machines[at].kind + "\n" + account;
    sums.set(key, (sums.get(key) ?? 0n) + BigInt(micros));
  }
  const rows = [...sums].map(([key, micros]) => {
    const [kind, account] = key.split("\n");
    return [kindName(kind), personName(data, account), exact(micros)];
  });
  const paid = new Map();
  for (const [at, payer, kept, refund] of data.customers) {
    for (const [to, micros] of [[kindName(data.machines[at].kind), kept], ["Back to the customer", refund]]) {
      const key = payer + "\n" + to;
      paid.set(key, (paid.get(key) ?? 0n) + BigInt(micros));
    }
  }
  for (const [key, micros] of paid) {
    const [payer, to] = key.split("\n");
    if (micros > 0n) rows.push(["Customer " + personName(data, payer), to, exact(micros)]);
  }
  return table("", [{ text: "From" }, { text: "To" }, { text: data.log.currency, number: true }], rows);
}
