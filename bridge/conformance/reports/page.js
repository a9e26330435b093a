"use strict";
// Opens cells, shows a pair or a verdict alone, moves through the matrix by keys. Everything that is
// shown was put into the page when it was written; only the drawings are markup, all else is text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const matrix = document.querySelector(".matrix");
  const dialog = document.getElementById("cell");
  const facts = dialog.querySelector(".facts");
  const drawing = dialog.querySelector(".drawing");
  const marks = [...matrix.querySelectorAll("button.mark")];
  const rows = [...matrix.querySelectorAll("tbody tr:not(.group)")];
  const pairs = [...document.querySelectorAll(".pair")];
  const chips = [...document.querySelectorAll(".chip")];
  const none = document.querySelector(".none");
  const fits = matchMedia("(min-width: 900px)");  // elsewhere one pair at a time
  let shown = "";      // the verdict that is shown alone, or all
  let chosen = null;   // the pair that was chosen
  let open = null;     // the number of the open cell
  let opener = null;   // what had the focus before

  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // --- What is shown of the matrix ---

  const worst = () => {
    const bad = pairs.find((pair) => pair.classList.contains("bad"));
    return (bad || pairs[0]).dataset.pair;
  };
  const pair = () => (chosen === null && !fits.matches && pairs.length ? worst() : chosen);
  const visible = (mark) => mark.offsetParent !== null && !mark.classList.contains("off");

  const refresh = () => {
    const alone = pair();
    if (alone === null) delete matrix.dataset.pair; else matrix.dataset.pair = alone;
    for (const one of pairs) one.setAttribute("aria-pressed", String(one.dataset.pair === alone));
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.show === shown));
    for (const mark of marks) mark.classList.toggle("off", shown !== "" && !mark.classList.contains(shown));
    let any = false;
    for (const body of matrix.tBodies) {
      let some = false;
      for (const row of body.querySelectorAll("tr:not(.group)")) {
        const here = [...row.querySelectorAll("button.mark")].some((mark) =>
          !mark.classList.contains("off") && (alone === null || mark.parentNode.dataset.p === alone));
        row.classList.toggle("gone", !here);
        some = some || here;
      }
      body.classList.toggle("gone", !some);
      any = any || some;
    }
    none.hidden = any;
    const current = marks.find((mark) => mark.tabIndex === 0);
    if (!current || !visible(current)) focusable(marks.find(visible));
  };
  const focusable = (mark) => {
    for (const one of marks) one.tabIndex = -1;
    if (mark) mark.tabIndex = 0;
  };

  for (const chip of chips) chip.addEventListener("click", () => { shown = chip.dataset.show; refresh(); });
  for (const one of pairs) {
    one.addEventListener("click", () => {
      chosen = chosen === one.dataset.pair ? null : one.dataset.pair;
      refresh();
    });
  }
  fits.addEventListener("change", refresh);

  // --- Keys ---

  matrix.addEventListener("keydown", (event) => {
    const mark = event.target.closest("button.mark");
    if (!mark) return;
    const row = mark.closest("tr");
    const line = [...row.querySelectorAll("button.mark")].filter(visible);
    const place = mark.parentNode.cellIndex;
    const beside = (from, step) => {
      const lines = rows.filter((one) => !one.classList.contains("gone"));
      for (let at = lines.indexOf(from) + step; at >= 0 && at < lines.length; at += step) {
        const found = lines[at].cells[place].querySelector("button.mark");
        if (found && visible(found)) return found;
      }
      return null;
    };
    const at = line.indexOf(mark);
    const next = {
      ArrowRight: () => line[at + 1], ArrowLeft: () => line[at - 1],
      ArrowDown: () => beside(row, 1), ArrowUp: () => beside(row, -1),
      Home: () => line[0], End: () => line[line.length - 1],
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (target) { focusable(target); target.focus(); }
  });

  // --- A cell ---

  const address = (number) => "#" + data.cells[number].key.map(encodeURIComponent).join("/");

  const fact = (title, text, name = "") => {
    const node = make("div", `fact ${name}`);
    node.append(make("h3", "", title), make("p", "", text));
    return node;
  };

  const command = (text) => {
    const node = make("div", "fact");
    const line = make("div", "command");
    const copy = make("button", "copy", "Copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(line.firstChild);
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    const words = make("pre");
    for (const word of text.split(/(?= --)/)) words.append(make("span", "word", word));
    line.append(words, copy);
    node.append(make("h3", "", "Play it again"), line);
    return node;
  };

  const danger = (hazard) => {
    const node = make("div", "card danger");
    const remedy = make("p");
    remedy.append(make("b", "", "What to do. "), hazard.remedy);
    node.append(make("h3", "", hazard.name), make("p", "", hazard.meaning), remedy);
    return node;
  };

  const fill = (number) => {
    const cell = data.cells[number];
    const [scenario, sender, receiver, dialect] = cell.key;
    const [title, requirement] = data.scenarios[scenario];
    dialog.querySelector(".where").textContent = `${sender} → ${receiver} · ${dialect}`;
    dialog.querySelector("h2").textContent = `${scenario}  ${title}`;
    const badge = make("p", "badge");
    badge.append(make("span", `mark ${cell.verdict}`, data.signs[cell.verdict]), cell.judged);
    facts.replaceChildren(badge, fact("The protocol asks for", requirement));
    if (cell.expected && cell.expected !== requirement) facts.append(fact("Expected", cell.expected));
    const reason = { unsupported: "Why it was not played", error: "The cause" }[cell.verdict];
    facts.append(fact(reason || "Observed", cell.observed, "told"));
    if (cell.clean_up) facts.append(fact("Clean-up", cell.clean_up, "told"));
    if (cell.unjudged.length) facts.append(fact("Not judged", cell.unjudged.join("; "), "told"));
    if (cell.hazard !== null) facts.append(danger(data.hazards[cell.hazard]));
    if (cell.rerun) facts.append(command(cell.rerun));
    if (cell.log.length) {
      const log = make("div", "fact");
      log.append(make("h3", "", "Log"), make("pre", "log", cell.log.join("\n")));
      facts.append(log);
    }
    if (cell.took) facts.append(fact("It took", cell.took));
    drawing.replaceChildren(make("h3", "", "Messages"));
    for (const panel of cell.panels) {
      const holder = make("div");
      holder.innerHTML = data.panels[panel];
      drawing.append(holder);
    }
    if (!cell.panels.length) drawing.append(make("p", "quiet", "None passed between the two ends. What a stranger said or heard, the words above and the log tell."));
    if (cell.left_out) drawing.append(make("p", "quiet", cell.left_out));
    const around = neighbours(number);
    for (const step of dialog.querySelectorAll(".step")) {
      step.disabled = around[step.dataset.step] === undefined;
    }
    open = number;
    dialog.scrollTop = 0;
  };

  const neighbours = (number) => {
    const list = marks.filter(visible).map((mark) => Number(mark.dataset.cell));
    const at = list.indexOf(number);
    return at < 0 ? {} : { "-1": list[at - 1], 1: list[at + 1] };
  };

  const show = (number) => {
    const mark = marks.find((one) => Number(one.dataset.cell) === number);
    if (mark && !visible(mark)) {  // it was asked for from elsewhere: show where it stands
      if (mark.classList.contains("off")) shown = "";
      if (pair() !== null) chosen = mark.parentNode.dataset.p;
      refresh();
    }
    if (!dialog.open) {
      opener = document.activeElement;
      dialog.showModal();
    }
    fill(number);
    dialog.querySelector("h2").focus();
    history.replaceState(null, "", address(number));
  };

  const step = (by) => {
    const next = neighbours(open)[by];
    if (next !== undefined) show(next);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-cell]");
    if (button) show(Number(button.dataset.cell));
  });
  for (const button of dialog.querySelectorAll(".step")) {
    button.addEventListener("click", () => step(button.dataset.step));
  }
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step("1");
    if (event.key === "ArrowLeft") step("-1");
  });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    const mark = marks.find((one) => Number(one.dataset.cell) === open);
    if (mark && visible(mark)) focusable(mark);
    const back = opener && opener.matches(".mark") ? mark : opener;
    if (back && back.isConnected) back.focus();
    open = null;
  });

  const follow = () => {
    const number = data.cells.findIndex((_, at) => address(at) === location.hash);
    if (number >= 0) show(number);
  };
  addEventListener("hashchange", follow);
  refresh();
  follow();
})();
