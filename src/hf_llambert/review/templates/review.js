// Keys of the review page. A key presses the button, so that both do the same; what is typed into a field is left alone.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select, [contenteditable=true]")) return;
  const key = event.key.toLowerCase();
  const press = (id) => {
    const button = document.getElementById(id);
    if (button && !button.disabled && button.offsetParent) { event.preventDefault(); button.click(); }
  };
  if (/^[1-9]$/.test(key)) press("review-label-" + key);
  else if (key === "s") press("review-skip");
  else if (key === "u" || key === "backspace") press("review-undo");
  else if (key === "?") {
    const help = document.querySelector("#review-help details");
    if (help) help.open = !help.open;
  }
});
// The next text is read from its beginning.
let place = null;
new MutationObserver(() => {
  const text = document.querySelector(".review-text");
  if (text && text.dataset.place !== place) { place = text.dataset.place; text.scrollTop = 0; }
}).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-place"] });
