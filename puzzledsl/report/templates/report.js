// What a layer is made of, at once and to a finger or the arrow keys too: titles need a mouse that rests.
for (const strip of document.querySelectorAll(".strip")) {
  const readout = strip.parentElement.querySelector(".readout");
  const rows = [...strip.querySelectorAll(".cells, .bars")].map((row) => [...row.children]);
  const parts = (column) => rows.map((row) => row[column].dataset.tip).filter(Boolean);
  let at = -1;
  const show = (column) => {
    rows.forEach((row) => row.forEach((item, i) => item.classList.toggle("on", i === column)));
    const [first, ...rest] = parts(column);
    const layer = first.split(" · ")[0];
    readout.textContent = [first, ...rest.map((tip) => tip.replace(layer + " · ", ""))].join("  |  ");
    at = column;
  };
  const find = (event) => {
    for (const row of rows) {
      const column = row.indexOf(event.target);
      if (column >= 0) show(column);
    }
  };
  strip.addEventListener("pointerover", find);
  strip.addEventListener("pointerdown", find);
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !rows.length) return;
    event.preventDefault();
    show(Math.max(0, Math.min(rows[0].length - 1, at + step)));
  });
}
