// Turns each question of the page into buttons that answer at once: no kernel, no network, works from the file system.
// What is there without this script (question, list of options, a fold with the answer) is what it is built from.
(() => {
  "use strict";
  const make = (tag, attrs, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attrs)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  // "A. text" without its letter; the nodes are moved, so that formulas and links stay what they are.
  function content(item) {
    const from = item.children.length === 1 && item.firstElementChild.tagName === "P" ? item.firstElementChild : item;
    const nodes = [...from.childNodes].filter((n, i) => i > 0 || n.nodeName === "STRONG" || n.textContent.trim());
    nodes.shift();                                                        // <strong>A.</strong>
    return nodes;
  }

  function build(quiz) {
    const [question, list] = quiz.children, fold = quiz.querySelector("details"), right = +quiz.dataset.right;
    const reason = fold.querySelector(":scope > p"), wrong = [...fold.querySelectorAll(":scope > ul > li")];
    const options = [...list.children];
    for (const link of list.querySelectorAll("a")) link.replaceWith(...link.childNodes);   // the book links terms and names; a button can't
    const why = options.map((_, i) => (i === right ? reason : wrong[i - (i > right)]));
    const said = make("div", { class: "quiz-said", role: "status", "aria-live": "polite", "aria-atomic": "true" });

    const buttons = options.map((option, i) => {
      const button = make("button", { type: "button", class: "quiz-option", "aria-pressed": "false" },
        make("span", { class: "quiz-letter" }, "ABCDE"[i]), " ", make("span", { class: "quiz-text" }, ...content(option)),
        make("span", { class: "quiz-mark", "aria-hidden": "true" }));
      button.addEventListener("click", () => choose(i));
      return button;
    });

    function choose(i) {
      buttons.forEach((b, k) => {
        b.setAttribute("aria-pressed", String(k === i));
        if (k === i) {
          b.dataset.tried = k === right ? "right" : "wrong";
          b.lastElementChild.textContent = k === right ? "✓" : "✗";
        }
      });
      const copy = why[i].cloneNode(true);
      for (const node of [copy, ...copy.querySelectorAll("[id]")]) node.removeAttribute("id");
      (copy.tagName === "LI" && copy.children.length === 1 && copy.firstElementChild.tagName === "P"
        ? copy.firstElementChild : copy).querySelector("strong").remove();   // the letter
      const verdict = make("strong", { class: "quiz-verdict" }, i === right ? "Right." : "Not quite.");
      said.replaceChildren(make("p", {}, verdict, " ", ...(copy.querySelector(":scope > p") || copy).childNodes));
      said.dataset.verdict = i === right ? "right" : "wrong";
      quiz.dataset.answered = quiz.dataset.answered === "right" || i === right ? "right" : "wrong";
      if (i === right) fold.hidden = false;
    }

    const set = make("fieldset", {}, make("legend", {}, ...question.childNodes), make("div", { class: "quiz-options" }, ...buttons), said);
    question.remove();
    list.remove();
    quiz.prepend(set);
    fold.firstElementChild.textContent = "All answers";
    fold.hidden = true;
    quiz.classList.add("quiz-live");
  }

  const start = () => document.querySelectorAll(".quiz:not(.quiz-live)").forEach(build);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
