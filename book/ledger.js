// Search and sort the ledger; a plain table without it.
(() => {
  const table = document.getElementById("ledger");
  const body = table.tBodies[0];
  const search = document.getElementById("ledger-search");
  const shown = document.getElementById("ledger-shown");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${body.rows.length} claims`;
  };
  const direction = {};
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      direction[column] = -(direction[column] || -1);
      const key = (row) => row.cells[column].textContent.trim().toLowerCase();
      [...body.rows]
        .sort((a, b) => direction[column] * key(a).localeCompare(key(b)))
        .forEach((row) => body.append(row));
    });
  });
  search.addEventListener("input", filter);
  filter();
})();
