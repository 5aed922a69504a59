"use strict";
// All listeners are on the document: hundreds of bursts cost no more than one.
document.documentElement.classList.add("js");

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Move the divider of a stage to the position of its slider. */
function divide(stage) {
  const slider = stage.querySelector(".slider");
  const pan = stage.querySelector(".pan");
  const at = (pan.clientWidth * slider.value) / 100;
  stage.style.setProperty("--line", `${at}px`);
  pan.style.setProperty("--edge", `${pan.scrollLeft + at}px`);
  slider.setAttribute("aria-valuetext", `${slider.value} % before`);
}

/** Show another crop of a burst; a place in the names of the page's elements. */
function choose(viewer, place) {
  const chosen = viewer.querySelector(`.places input[value="${place}"]`);
  if (!chosen) return;
  chosen.checked = true;
  for (const part of viewer.querySelectorAll("[data-place]")) {
    part.classList.toggle("on", part.dataset.place === String(place));
  }
  divide(viewer.querySelector(".stage"));
}

/** Move the divider to the pointer. */
function follow(stage, event) {
  const box = stage.querySelector(".pan").getBoundingClientRect();
  const slider = stage.querySelector(".slider");
  slider.value = (100 * (event.clientX - box.left)) / box.width;
  divide(stage);
}

document.addEventListener("input", (event) => {
  const { target } = event;
  if (target.matches(".slider")) divide(target.closest(".stage"));
  if (target.matches(".places input")) choose(target.closest(".viewer"), target.value);
});

document.addEventListener("click", (event) => {
  const outline = event.target.closest(".map rect");
  if (outline) choose(outline.closest(".viewer"), outline.dataset.place);
});

document.addEventListener("scroll", (event) => {
  if (event.target.classList?.contains("pan")) divide(event.target.closest(".stage"));
}, { capture: true, passive: true });

// A mouse drags the divider from anywhere in the picture. A finger drags it by the grip only,
// because it also scrolls the picture.
let held = null;
document.addEventListener("pointerdown", (event) => {
  const stage = event.target.closest?.(".stage");
  if (!stage || event.button || event.target.matches(".slider")) return;
  if (event.pointerType === "touch" && !event.target.closest(".line")) return;
  held = stage;
  event.preventDefault();
  stage.querySelector(".slider").focus({ preventScroll: true });
  follow(stage, event);
});
document.addEventListener("pointermove", (event) => held && follow(held, event));
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => { held = null; });
}

/** Return the index of the burst at the top of the window; -1 above the first. */
function present(bursts) {
  let found = -1;
  bursts.forEach((burst, number) => {
    if (burst.getBoundingClientRect().top < 80) found = number;
  });
  return found;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const bursts = [...document.querySelectorAll(".burst")];
  const now = present(bursts);
  const step = { j: 1, k: -1 }[event.key];
  if (step) {
    const next = bursts[Math.min(Math.max(now + step, 0), bursts.length - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ behavior: still.matches ? "auto" : "smooth", block: "start" });
  } else if (/^[1-9]$/.test(event.key)) {
    const burst = document.activeElement.closest(".burst") ?? bursts[Math.max(now, 0)];
    const viewer = burst?.querySelector(".viewer");
    if (viewer) choose(viewer, Number(event.key) - 1);
  }
});

document.addEventListener("DOMContentLoaded", () => {
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) divide(target.closest(".stage"));
  });
  for (const pan of document.querySelectorAll(".pan")) sizes.observe(pan);
});

// The index of many bursts: only those with the chosen remark.
document.addEventListener("change", (event) => {
  if (!event.target.matches(".choice select")) return;
  const { value } = event.target;
  for (const tile of document.querySelectorAll(".tiles > li")) {
    tile.hidden = value !== "" && !tile.dataset.kinds.split(" ").includes(value);
  }
});
