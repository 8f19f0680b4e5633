// Diagrams, and the table of findings. Nothing here asks another host for anything.

const here = document.currentScript.src;

// --- diagrams: mermaid is large, so only a page that has one loads it ---

const diagrams = new Map(
  [...document.querySelectorAll("pre.mermaid")].map((pre) => [pre, pre.textContent]),
);

async function draw() {
  const dark = document.documentElement.dataset.theme === "dark";
  mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral" });
  for (const [pre, text] of diagrams) {
    pre.textContent = text;
    pre.removeAttribute("data-processed");
  }
  await mermaid.run({ nodes: [...diagrams.keys()] });
}

if (diagrams.size) {
  const script = document.createElement("script");
  script.src = new URL("mermaid.min.js", here);
  script.onload = () => {
    let drawn = draw();
    const again = () => (drawn = drawn.then(draw)); // one after the other: they draw in one place
    new MutationObserver(again).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  };
  document.head.append(script);
}

// --- the table of findings: sorted by a click on a head, filtered by what is typed ---

const table = document.querySelector("#findings table");

function text(row, column) {
  return row.cells[column].textContent.replace("✓", "").trim();
}

// Numbers by their value, then words, and what is missing at the end.
function compare(one, other) {
  const [a, b] = [parseFloat(one), parseFloat(other)];
  if (!isNaN(a) && !isNaN(b)) return a - b;
  if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1;
  return one.localeCompare(other);
}

function sort(head) {
  const down = head.ariaSort === "ascending";
  for (const each of table.tHead.rows[0].cells) each.ariaSort = "none";
  head.ariaSort = down ? "descending" : "ascending";
  const column = head.cellIndex;
  const rows = [...table.tBodies[0].rows].sort(
    (one, other) => compare(text(one, column), text(other, column)) * (down ? -1 : 1),
  );
  table.tBodies[0].append(...rows);
}

function filter(words, count) {
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
  }
  count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} findings`;
}

if (table) {
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.onclick = () => sort(head);
    head.replaceChildren(button);
    head.ariaSort = "none";
  }
  for (const row of table.tBodies[0].rows) {
    for (const cell of row.cells) cell.dataset.head = heads[cell.cellIndex].textContent;
  }
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter: memory, tuned, 07 ...";
  field.ariaLabel = "Filter the findings";
  const count = document.createElement("output");
  const show = () => filter(field.value.toLowerCase().split(/\s+/), count);
  field.oninput = show;
  show();
  const bar = document.createElement("div");
  bar.id = "filter";
  bar.append(field, count);
  (table.closest(".pst-scrollable-table-container") ?? table).before(bar);
}
