// Formulas are set when the page can be used, not before: a long chapter takes them half a second.
if (window.MathJax && !MathJax.startup) MathJax.startup = {
  pageReady: async () => {
    if (document.readyState !== "complete") await new Promise((ready) => addEventListener("load", ready, { once: true }));
    return MathJax.startup.defaultPageReady();
  },
};

// Opened from the file system a page may not fetch another one: search then shows titles without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// The theme's buttons say one thing and show another to a screen reader.
for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
for (const icon of document.querySelectorAll(".theme-switch-button i")) icon.removeAttribute("title");
