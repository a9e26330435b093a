// Shows of each wide table and diagram whether it scrolls, and prepares tables of text for phones.
const LONG = 24; // characters; a cell that is longer is text to be read, not a value to compare

for (const table of document.querySelectorAll("article table.docutils")) {
  const names = [...table.querySelectorAll("thead th")].map(head => head.textContent.trim());
  if (names.length > 6) table.classList.add("many");
  const text = [...table.querySelectorAll("tbody td:not(:first-child)")]
    .some(cell => cell.textContent.trim().length > LONG);
  if (names.length < 3 || names.length > 6 || !text) continue;
  table.classList.add("cards");
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, column) => {
      if (names[column] && cell.textContent.trim()) cell.dataset.column = names[column];
    });
}

function edges(box) {
  const scrolls = box.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("scrolls", scrolls);
  box.classList.toggle("more", scrolls && box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  if (scrolls) box.tabIndex = 0; // so that keys scroll it, too
  else box.removeAttribute("tabindex");
}

const sizes = new ResizeObserver(seen => seen.forEach(entry => edges(entry.target)));
for (const box of document.querySelectorAll("article .table-wrapper, pre.mermaid")) {
  box.addEventListener("scroll", () => edges(box), { passive: true });
  sizes.observe(box);
}
