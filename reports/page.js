// Reads cells of the maps out, for pointers, fingers and arrow keys. The page is whole without it.
"use strict";
(() => {
  const scale = (value, step, units) => {
    let unit = 0;
    while (Math.abs(value) >= step && unit + 1 < units.length) {
      value /= step;
      unit++;
    }
    return (unit === 0 ? value.toLocaleString("en") : value.toPrecision(3)) + " " + units[unit];
  };
  const words = (name) => name.replaceAll("_", " ");
  const show = (name, value) => {
    if (value === null) {
      return words(name) + ": none";
    }
    if (name.endsWith("over_mean")) {
      return value.toFixed(2) + " times the mean";
    }
    if (name.split("_").includes("bytes")) {
      return scale(value, 1000, ["bytes", "kB", "MB", "GB", "TB"]);
    }
    return value.toLocaleString("en") + " " + words(name);
  };

  const bring = (plot, data) => {
    const [rowName, rows] = Object.entries(data.row)[0];
    const [columnName, columns] = Object.entries(data.column)[0];
    const values = Object.entries(data.values).filter(([name]) => name !== "ranks_per_cell");
    const readout = plot.parentElement.querySelector(".readout");
    const marker = document.createElement("div");
    const label = plot.getAttribute("aria-label");
    let row = 0;
    let column = 0;
    marker.className = "cell";
    marker.hidden = true;
    plot.append(marker);
    plot.tabIndex = 0;
    plot.setAttribute("role", "application");
    plot.setAttribute("aria-roledescription", "map");
    plot.setAttribute("aria-label", label + " Use the arrow keys to read its cells.");
    readout.hidden = false;

    const box = () => {
      const form = [...plot.querySelectorAll("[data-box]")].find((f) => f.offsetWidth > 0);
      return form.dataset.box.split(" ").map(Number);
    };
    const read = () => {
      const [left, right, top, bottom] = box();
      const width = (right - left) * 100 / columns.length;
      const height = (bottom - top) * 100 / rows.length;
      marker.hidden = false;
      marker.style.left = left * 100 + width * column + "%";
      marker.style.top = top * 100 + height * row + "%";
      marker.style.width = `max(${width}%, 6px)`;
      marker.style.height = `max(${height}%, 6px)`;
      readout.textContent = `${words(rowName)} ${rows[row]}, ${words(columnName)} ` +
        `${columns[column]}: ` +
        values.map(([name, list]) => show(name, list[row * columns.length + column])).join(", ");
    };
    const point = (event) => {
      const area = plot.getBoundingClientRect();
      const [left, right, top, bottom] = box();
      const x = ((event.clientX - area.left) / area.width - left) / (right - left);
      const y = ((event.clientY - area.top) / area.height - top) / (bottom - top);
      if (x >= 0 && x < 1 && y >= 0 && y < 1) {
        column = Math.floor(x * columns.length);
        row = Math.floor(y * rows.length);
        read();
      }
    };
    const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
    const moves = {
      ArrowLeft: () => { column = clamp(column - 1, columns.length); },
      ArrowRight: () => { column = clamp(column + 1, columns.length); },
      ArrowUp: () => { row = clamp(row - 1, rows.length); },
      ArrowDown: () => { row = clamp(row + 1, rows.length); },
      Home: () => { column = 0; },
      End: () => { column = columns.length - 1; },
      PageUp: () => { row = 0; },
      PageDown: () => { row = rows.length - 1; },
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("pointerleave", () => { marker.hidden = document.activeElement !== plot; });
    plot.addEventListener("focus", read);
    plot.addEventListener("blur", () => { marker.hidden = true; });
    plot.addEventListener("keydown", (event) => {
      if (event.key in moves && !event.ctrlKey && !event.altKey && !event.metaKey) {
        event.preventDefault();
        moves[event.key]();
        read();
      }
    });
  };

  for (const script of document.querySelectorAll("figure script[type='application/json']")) {
    try {
      bring(script.parentElement.querySelector(".plot"), JSON.parse(script.textContent));
    } catch (problem) {
      console.error(problem);
    }
  }
})();
