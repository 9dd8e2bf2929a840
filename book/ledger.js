// Search and filter the ledger; without it the form stays hidden and the table whole.
(() => {
  const form = document.getElementById("ledger-filter");
  const rows = [...document.querySelectorAll("#ledger tr[data-paper], .waiting li")];
  const told = form.querySelector("output");
  const filter = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = ["paper", "theme", "edition", "verdict"].filter((name) => form[name]?.value);
    let shown = 0;
    for (const row of rows) {
      const text = row.dataset.text.toLowerCase();
      // A verdict beside an edition is that of its cell, else that of the line.
      const cell = row.querySelector(`[data-edition="${form.edition?.value}"]`);
      const fits = (name) => {
        const wanted = form[name].value;
        if (name === "verdict") return (cell ?? row).dataset.verdict === wanted;
        if (name !== "edition") return row.dataset[name] === wanted;
        return asked.includes("verdict") || row.dataset.editions.split(" ").includes(wanted);
      };
      row.hidden = !(words.every((word) => text.includes(word)) && asked.every(fits));
      shown += !row.hidden;
    }
    const narrowed = words.length + asked.length > 0;
    for (const group of document.querySelectorAll("#ledger tbody, .waiting")) {
      const left = group.querySelectorAll("tr[data-paper]:not([hidden]), li:not([hidden])").length;
      group.hidden = narrowed && !left;
      if (narrowed && group.matches(".waiting")) group.open = left > 0 && left < 40;
    }
    const waiting = document.getElementById("waiting");
    if (waiting) waiting.hidden = !waiting.querySelector(".waiting:not([hidden])");
    told.textContent = `${shown} of ${rows.length} claims`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  // A square leads to its line, also when a filter hides it.
  for (const square of document.querySelectorAll(".dots .d a[href^='#']")) {
    square.addEventListener("click", () => {
      const target = document.getElementById(square.getAttribute("href").slice(1));
      if (target?.hidden) form.reset();
    });
  }
  form.hidden = false;
  filter();
})();
