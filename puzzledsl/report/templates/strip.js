// What a layer is made of, at once and to a finger or the arrow keys too: titles need a mouse that rests.
// `picked` is called with the layer that is shown, and whether it was asked for by a press.
function readStrip(strip, readout = strip.parentElement.querySelector(".readout"), picked = null) {
  const rows = [...strip.querySelectorAll(".cells, .bars")].map((row) => [...row.children]);
  const parts = (column) => rows.map((row) => row[column].dataset.tip).filter(Boolean);
  let at = -1;
  const show = (column, pressed = false) => {
    rows.forEach((row) => row.forEach((item, i) => item.classList.toggle("on", i === column)));
    const [first, ...rest] = parts(column);
    const layer = first.split(" · ")[0];
    readout.textContent = [first, ...rest.map((tip) => tip.replace(layer + " · ", ""))].join("  |  ");
    at = column;
    if (picked) picked(column, pressed);
  };
  const find = (event) => {
    for (const row of rows) {
      const column = row.indexOf(event.target);
      if (column >= 0) show(column, event.type === "pointerdown");
    }
  };
  strip.addEventListener("pointerover", find);
  strip.addEventListener("pointerdown", find);
  strip.addEventListener("keydown", (event) => {
    const last = rows.length ? rows[0].length - 1 : -1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    show(Math.max(0, Math.min(last, to)), true);
  });
  return show;
}
