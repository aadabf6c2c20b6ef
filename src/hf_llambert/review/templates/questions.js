// Keys of the page of several questions. They are about the marked question; a click is about the one that it is in.
(() => {
  const drafts = new Map(); // labels that were pressed and not confirmed, by row and question
  let typed = "", sent = null, waiting = [], shown = null;
  const board = () => document.getElementById("review-board");
  const active = () => document.querySelector(".review-question.active");
  const options = (section) => [...section.querySelectorAll("[data-label]")];
  const pressed = (section) =>
    options(section).filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => Number(one.dataset.label));
  const draft = (section) => board().dataset.place + " " + section.dataset.question;
  const type = (section, text, said = text) => {
    typed = text;
    const place = section.querySelector(".review-typed");
    if (place) place.textContent = said;
  };
  const isSent = () => board() && sent === board().dataset.shown;
  const send = (section, labels) => {
    if (isSent()) return;
    sent = board().dataset.shown;
    window.reviewAnswer = JSON.stringify({ step: Number(board().dataset.step), question: section.dataset.question, labels });
    document.getElementById("review-send").click();
  };
  const choose = (section, one) => {
    if (section.dataset.kind !== "any") return send(section, [Number(one.dataset.label)]);
    one.setAttribute("aria-pressed", one.getAttribute("aria-pressed") !== "true");
    drafts.set(draft(section), pressed(section));
  };
  const number = (section, key) => {
    const next = typed + key;
    const fit = options(section).filter((one) => one.dataset.key.startsWith(next));
    if (!fit.length) return type(section, "", next + " is no level");
    if (fit.length > 1 || fit[0].dataset.key !== next) return type(section, next, next + " …, Enter ends it");
    type(section, "");
    send(section, [Number(fit[0].dataset.label)]);
  };
  // Whether a key is one of the marked question.
  const take = (key) => {
    const section = active();
    if (!section) return false;
    const kind = section.dataset.kind;
    if (key === "enter" && kind === "any") send(section, pressed(section));
    else if (key === "enter" && kind === "number" && typed) {
      const fit = options(section).find((one) => one.dataset.key === typed);
      if (fit) send(section, [Number(fit.dataset.label)]);
      type(section, "", fit ? "" : typed + " is no level");
    } else if (key === "backspace" && typed) type(section, "");
    else if (kind === "number" && /^[-.0-9]$/.test(key)) number(section, key);
    else if (kind !== "number" && /^[0-9a-z]$/.test(key)) {
      const one = options(section).find((one) => one.dataset.key === key);
      if (!one) return false;
      choose(section, one);
    } else return false;
    return true;
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !board()) return;
    if (event.target.closest("input, textarea, select, [contenteditable=true]")) return;
    const key = event.key.toLowerCase();
    const own = event.target.closest(".review-question.active [data-label]");
    if (key === "enter" && !own && event.target.closest("button, summary, a")) return;
    // What is typed before the answer is taken is for the next question of the same text, never for one that is not shown yet.
    if (isSent() && /^([-.0-9a-z]|enter)$/.test(key)) waiting.push([board().dataset.place, key]);
    else if (!take(key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  document.addEventListener("click", (event) => {
    const one = event.target.closest(".review-question button");
    if (!one || isSent()) return;
    const section = one.closest(".review-question");
    if (one.dataset.label === undefined) send(section, pressed(section));
    else choose(section, one);
  });
  new MutationObserver(() => {
    if (!board() || board().dataset.shown === shown) return;
    shown = board().dataset.shown;
    if (document.getElementById("review-failed")) waiting = []; // what was typed after what failed
    [typed, sent] = ["", null];
    for (const section of document.querySelectorAll(".review-question:not(.answered)")) {
      const labels = drafts.get(draft(section)) || [];
      for (const one of options(section)) one.setAttribute("aria-pressed", labels.includes(Number(one.dataset.label)));
    }
    if (active()) active().scrollIntoView({ block: "nearest" });
    const keys = waiting.filter(([place]) => place === board().dataset.place);
    waiting = [];
    for (const [place, key] of keys) isSent() ? waiting.push([place, key]) : take(key);
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-shown"] });
})();
