// Run in each page before it is printed: the article alone, everything open, links that lead into the book marked.
async ([site, online]) => {
  const article = document.querySelector("article.bd-article");
  document.documentElement.dataset.theme = "light";
  document.documentElement.dataset.mode = "light";
  document.documentElement.classList.add("paper");
  if (window.MathJax?.startup) await MathJax.startup.promise;

  // Hidden solutions go to the end of the chapter.
  const solutions = document.createElement("section");
  solutions.id = "paper-solutions";
  solutions.innerHTML = "<h2>Solutions</h2>";
  [...article.querySelectorAll("details.solution")].forEach((fold, i) => {
    const exercise = fold.closest(".admonition");
    const title = exercise?.querySelector(".admonition-title")?.textContent || fold.querySelector("summary").textContent;
    const box = document.createElement("div");
    box.id = `paper-solution-${i + 1}`;
    box.append(Object.assign(document.createElement("h3"), { textContent: title }));
    fold.querySelector("summary").remove();
    box.append(...fold.childNodes);
    solutions.append(box);
    const pointer = Object.assign(document.createElement("p"), { className: "paper-pointer" });
    pointer.append(Object.assign(document.createElement("a"),
      { href: "#" + box.id, textContent: "Solution at the end of the chapter" }));
    fold.replaceWith(pointer);
  });
  if (solutions.children.length > 1) article.append(solutions);
  for (const d of article.querySelectorAll("details:not(.hide)")) d.open = true;   // folded code stays out

  // Pictures.
  const pictures = [...article.querySelectorAll("img")].filter((i) => i.checkVisibility());
  for (const p of pictures) p.loading = "eager";
  await Promise.all(pictures.map((p) => p.decode().catch(() => 0)));
  const lost = pictures.filter((p) => !p.naturalWidth).map((p) => p.getAttribute("src"));

  // Links: into the book, to the book's address for what is not in the PDF, or as they are.
  for (const a of article.querySelectorAll("a.headerlink, a.viewcode-link, .copybtn")) a.remove();
  for (const a of article.querySelectorAll("a.full-size")) a.removeAttribute("href");
  const here = location.href.split("#")[0];
  for (const a of article.querySelectorAll("a[href]")) {
    if (!a.href.startsWith(site) || a.href.split("#")[0] === here) continue;
    const [path, anchor] = a.href.slice(site.length).split("#");
    const inside = path.endsWith(".html") && !/^(_|genindex|py-modindex|search|fresh_run)/.test(path);
    a.href = inside ? "book:" + path.slice(0, -5) + (anchor ? "#" + anchor : "") : online + a.href.slice(site.length);
  }
  const nav = document.createElement("nav");   // a place that some link names becomes a named destination
  nav.style.display = "none";
  const ids = [...article.querySelectorAll("[id]")].filter((e) => !e.closest("mjx-container, svg"));
  for (const e of ids) nav.append(Object.assign(document.createElement("a"), { href: "#" + encodeURIComponent(e.id) }));
  article.append(nav);

  // Formulas that are too wide shrink; whatever else is too wide would be cut.
  for (const m of article.querySelectorAll("mjx-container")) {
    const room = m.parentElement.clientWidth;
    const needed = Math.max(m.scrollWidth, m.firstElementChild?.scrollWidth || 0);
    if (room && needed > room) m.style.setProperty("font-size", `${Math.floor(100 * room / needed)}%`, "important");
  }
  const right = article.getBoundingClientRect().right + 2;
  const wide = [...article.querySelectorAll("pre, img, table, dt, p")].filter((e) => e.checkVisibility()
    && (e.getBoundingClientRect().right > right || e.scrollWidth > e.clientWidth + 2 && getComputedStyle(e).display !== "inline"))
    .map((e) => `${e.tagName} ${e.scrollWidth} > ${e.clientWidth}: ${e.textContent.trim().slice(0, 60) || e.getAttribute("src")}`);
  const text = (h) => { const c = h.cloneNode(true); c.querySelectorAll("mjx-assistive-mml").forEach((m) => m.remove());
    return c.textContent.replace(/\s+/g, " ").replace(/#$/, "").trim(); };
  const headings = [...article.querySelectorAll("h2, h3")].filter((h) => h.checkVisibility()).map((h) => (
    { level: +h.tagName[1], text: text(h), id: h.id || h.closest("section, div[id]")?.id || "" }));
  return { title: text(article.querySelector("h1") || document.querySelector("title")), headings, lost, wide };
}
