"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const found = text.replace(/−/g, "-").replace(/(\d),(?=\d{3})/g, "$1").match(/^[<≥≤ ]*([+-]?\d[\d.]*(e[+-]?\d+)?)/);
    return [found ? parseFloat(found[1]) : NaN, text];
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map(row => [row, ...value(row, column)]);
      rows.sort(([, a, s], [, b, t]) => isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) || (down ? -1 : 1) * s.localeCompare(t) : (down ? b - a : a - b));
      table.tBodies[0].append(...rows.map(([row]) => row));
    });
  });
}
for (const code of document.querySelectorAll("code.command")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(code.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(code); button.textContent = "Selected"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  code.after(button);
}
for (const box of document.querySelectorAll("[data-panels]")) {
  const panels = JSON.parse(box.dataset.panels), svg = box.querySelector("svg");
  const scale = panel => panel.log ? Math.log : x => x;
  const places = panels.map(panel => [...new Set(Object.values(panel.lines).flat().map(([x]) => x))].filter(x => x !== null).sort((a, b) => a - b));
  const cursor = document.createElement("div"), values = document.createElement("output");
  cursor.className = "cursor"; values.className = "values";
  let at = 0, index = -1;
  const hide = () => { cursor.remove(); values.remove(); index = -1; };
  const show = () => {
    const panel = panels[at], x = places[at][index], of = scale(panel), [left, top, right, bottom] = panel.box;
    const width = svg.clientWidth || svg.getBoundingClientRect().width, height = svg.getBoundingClientRect().height;
    const across = (left + (right - left) * (of(x) - of(panel.x[0])) / ((of(panel.x[1]) - of(panel.x[0])) || 1)) * width;
    const near = Object.entries(panel.lines).map(([label, points]) => [label, points.filter(([px]) => px !== null && Math.abs(of(px) - of(x)) < 1e-9)]);
    values.textContent = [String(x), ...near.filter(([, points]) => points.length).map(([label, [[, y]]]) => `${label}: ${y ?? "not finite"}`)].join("\n");
    box.append(cursor, values);
    Object.assign(cursor.style, { left: `${across}px`, top: `${top * height}px`, height: `${(bottom - top) * height}px` });
    const room = box.scrollLeft + box.clientWidth - values.offsetWidth;
    values.style.left = `${Math.max(0, across + 10 <= room ? across + 10 : Math.min(across - values.offsetWidth - 10, room))}px`;
    values.style.top = `${Math.max(0, Math.min(top * height + 8, height - values.offsetHeight))}px`;
  };
  box.addEventListener("pointermove", event => {
    const frame = svg.getBoundingClientRect(), x = (event.clientX - frame.left) / frame.width, y = (event.clientY - frame.top) / frame.height;
    const found = panels.findIndex(({ box: [left, top, right, bottom] }) => x >= left - 0.02 && x <= right + 0.02 && y >= top && y <= bottom);
    if (found < 0 || !places[found].length) return hide();
    const panel = panels[found], of = scale(panel), [left, , right] = panel.box;
    const wanted = of(panel.x[0]) + (x - left) / (right - left) * (of(panel.x[1]) - of(panel.x[0]));
    at = found;
    index = places[at].reduce((best, each, i) => Math.abs(of(each) - wanted) < Math.abs(of(places[at][best]) - wanted) ? i : best, 0);
    show();
  });
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], turn = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape") return hide();
    if (!step && !turn) return;
    event.preventDefault();
    if (turn) { at = (at + turn + panels.length) % panels.length; index = Math.min(Math.max(index, 0), places[at].length - 1); }
    else index = Math.min(Math.max(index + step, 0), places[at].length - 1);
    show();
  });
}
for (const box of document.querySelectorAll(".scroll, figure > div")) {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "Wider than the screen: scroll sideways \u2192";
  box.before(hint);
  new ResizeObserver(() => hint.classList.toggle("shown", box.scrollWidth > box.clientWidth + 1)).observe(box);
}
