// The contributor's page: record an acted emotion, check it, submit it, withdraw all.
import { at, bars } from "./dom.js";
import { Recorder } from "./record.js";
import { currentLanguage, emotion, number, percent, setLanguage, text } from "./texts.js";

const LONGEST_S = 30;

let settings;
let tally;
let prompted;
let recording = null;
let checked = null; // {id, label, probabilities, model, seconds, address}

async function ask(path, body) {
  let reply;
  try {
    reply = await fetch(path, body === undefined ? {} : { method: "POST", body });
  } catch {
    throw new Error(text("noServer"));
  }
  const content = await reply.json();
  if (!reply.ok) throw new Error(content.error.message);
  return content;
}

const show = (name) => ["start", "recorder", "working"].forEach((id) => (at(id).hidden = id !== name));

// Do what a button asks for; what goes wrong is shown in one sentence.
async function attempt(action) {
  at("problem").textContent = at("state").textContent = "";
  try {
    await action();
  } catch (error) {
    at("problem").textContent = error.message;
    show("start");
  }
}

async function record() {
  drop();
  try {
    recording = await Recorder.start({ camera: false, level: (share) => (at("level").value = share) });
  } catch (error) {
    throw new Error(text("noMicrophone", { why: error.message }));
  }
  show("recorder");
  at("stop").focus();
  const tick = () => {
    if (!recording) return;
    at("clock").textContent = text("recordedFor", { seconds: number(recording.seconds, 0) });
    if (recording.seconds >= LONGEST_S) at("stop").click();
    else setTimeout(tick, 200);
  };
  tick();
}

async function stop() {
  const ended = recording;
  recording = null;
  const file = await ended.stop();
  show("working");
  const form = new FormData();
  form.append("file", file, file.name);
  checked = { ...(await ask("v1/predict", form)), address: URL.createObjectURL(file) };
  show("start");
  draw();
  at("label").focus();
}

function drop() {
  if (checked) URL.revokeObjectURL(checked.address);
  checked = null;
  at("playback").removeAttribute("src");
  draw();
}

async function submit() {
  const form = new FormData();
  form.append("id", checked.id);
  form.append("prompted", prompted);
  take(await ask("v1/submit", form));
  drop();
  at("state").textContent = text("contributeThanks");
  at("record").focus();
}

async function withdraw() {
  const { withdrawn, ...state } = await ask("v1/withdraw", new FormData());
  take(state);
  sure(false);
  draw();
  at("state").textContent = text("contributeWithdrawn", { count: withdrawn });
}

function sure(asked) {
  for (const id of ["ask", "confirm", "keep"]) at(id).hidden = !asked;
  at("withdraw").hidden = asked;
  at(asked ? "keep" : "withdraw").focus();
}

const take = (state) => ({ tally, prompt: prompted } = state);

function draw() {
  at("prompt").textContent = emotion(prompted);
  at("counts").textContent = text("contributeCounts", tally);
  const values = { size: number(tally.bytes_sent / 1e6, 2), replies: tally.replies };
  at("sent").textContent = text("contributeSent", values);
  at("withdraw").disabled = tally.submitted === 0;
  at("consent").textContent = text(`contributeConsent_${settings.keep}`);
  at("check").hidden = !checked;
  if (!checked) return;
  const { label, probabilities, model, seconds } = checked;
  at("label").textContent = text("headline", { label: emotion(label), percent: percent(probabilities[label]) });
  at("used").textContent = text("contributePredicted", { model, seconds: number(seconds, 2) });
  if (at("playback").src !== checked.address) at("playback").src = checked.address;
  bars(at("bars"), Object.keys(probabilities), settings.colours)(probabilities);
}

async function start() {
  setLanguage(currentLanguage());
  at("language").value = currentLanguage();
  settings = await ask("v1/contribution");
  take(settings);
  show("start");
  draw();
  at("record").onclick = () => attempt(record);
  at("stop").onclick = () => recording && attempt(stop);
  at("discard").onclick = () => {
    recording?.close();
    recording = null;
    show("start");
  };
  at("other").onclick = () => attempt(async () => (take(await ask("v1/contribution")), draw()));
  at("submit").onclick = () => attempt(submit);
  at("drop").onclick = () => attempt(drop);
  at("withdraw").onclick = () => sure(true);
  at("keep").onclick = () => sure(false);
  at("confirm").onclick = () => attempt(withdraw);
  at("language").onchange = ({ target }) => {
    setLanguage(target.value);
    draw();
  };
  document.body.dataset.ready = "yes";
}

start().catch((error) => (at("problem").textContent = text("notLoaded", { why: error.message })));
