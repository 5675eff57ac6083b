// The strip's titles need a mouse that rests; this shows them at once, and to a finger too.
for (const strip of document.querySelectorAll(".strip")) {
  const readout = strip.parentElement.querySelector(".readout");
  const show = (event) => {
    const tip = event.target.dataset && event.target.dataset.tip;
    if (tip) readout.textContent = tip;
  };
  strip.addEventListener("pointerover", show);
  strip.addEventListener("pointerdown", show);
}
