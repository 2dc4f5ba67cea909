// Model cards: the parts of Markdown that they use, as elements; nothing in a card becomes markup.
import { element } from "./dom.js";

export function card(markdown) {
  const root = element("article");
  const lines = markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  while (lines.length) block(lines, root);
  return root;
}

function block(lines, root) {
  const take = (test) => {
    const taken = [];
    while (lines.length && test(lines[0])) taken.push(lines.shift());
    return taken;
  };
  const [line] = lines;
  if (!line.trim()) lines.shift();
  else if (/^#+ /.test(line)) root.append(inline(lines.shift().replace(/^#+ /, ""), /^# /.test(line) ? "h2" : "h3"));
  else if (line.startsWith("```")) {
    lines.shift();
    root.append(element("pre", { tabIndex: 0 }, element("code", {}, take((l) => !l.startsWith("```")).join("\n"))));
    lines.shift();
  } else if (/^\s*\|/.test(line)) root.append(table(take((l) => /^\s*\|/.test(l))));
  else if (/^\s*[-*] /.test(line)) {
    const items = [];
    for (const l of take((l) => l.trim() && !/^#|^\|/.test(l))) {
      if (/^\s*[-*] /.test(l)) items.push(l.replace(/^\s*[-*] /, ""));
      else items[items.length - 1] += ` ${l.trim()}`;
    }
    root.append(element("ul", {}, ...items.map((item) => inline(item, "li"))));
  } else root.append(inline(take((l) => l.trim() && !/^(#|```|\s*\||\s*[-*] )/.test(l)).join(" "), "p"));
}

function table(lines) {
  const rows = lines.filter((l) => !/^[\s|:-]+$/.test(l)).map((l) => l.trim().replace(/^\||\|$/g, "").split("|"));
  const line = (cells, tag) => element("tr", {}, ...cells.map((cell) => inline(cell.trim(), tag)));
  const [head, ...body] = rows;
  const titled = head.some((cell) => cell.trim());
  return element(
    "table",
    { tabIndex: 0 },
    ...(titled ? [element("thead", {}, line(head, "th"))] : []),
    element("tbody", {}, ...body.map((cells) => line(cells, "td"))),
  );
}

function inline(words, tag) {
  const made = element(tag);
  for (const part of words.split(/(\*\*[^*]+\*\*|\*[^*]+\*|`[^`]+`|\[[^\]]+\]\([^)]+\))/)) {
    if (/^\*\*/.test(part)) made.append(element("b", {}, part.slice(2, -2)));
    else if (/^\*[^*]/.test(part)) made.append(element("em", {}, part.slice(1, -1)));
    else if (/^`/.test(part)) made.append(element("code", {}, part.slice(1, -1)));
    else if (/^\[/.test(part)) made.append(part.replace(/^\[([^\]]+)\]\((.+)\)$/, "$1 ($2)"));
    else made.append(part);
  }
  return made;
}
