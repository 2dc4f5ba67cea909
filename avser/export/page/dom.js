// Elements of the page.
import { emotion, percent } from "./texts.js";

export const at = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

// A bar for each emotion; `show` sets them.
export function bars(container, names, colours) {
  container.replaceChildren();
  const rows = names.map((name) => {
    const fill = element("div", { className: "fill" });
    fill.style.background = colours[name];
    const share = element("div", { className: "share" });
    container.append(element("div", {}, emotion(name)), element("div", { className: "track" }, fill), share);
    return { name, fill, share };
  });
  return (shares) => {
    for (const { name, fill, share } of rows) {
      fill.style.width = shares ? `${100 * shares[name]}%` : "0";
      share.textContent = shares ? percent(shares[name]) : "";
    }
  };
}

export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
