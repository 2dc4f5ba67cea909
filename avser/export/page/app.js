// The page: views, recording, upload, progress and results.
import { card } from "./card.js";
import { at, element } from "./dom.js";
import { LiveView } from "./live.js";
import { ManyClips } from "./many.js";
import { Recorder } from "./record.js";
import { ResultView, announcement } from "./result.js";
import { currentLanguage, number, percent, setLanguage, text } from "./texts.js";

const VIEWS = ["clip", "many", "live", "about"];
const SAMPLES = { "sample-video": "sample.mp4", "sample-voice": "sample_voice.mp3" };
const TYPES = { mp4: "video/mp4", mp3: "audio/mpeg" };
const STAGES = { decode: "stageDecode", faces: "stageFaces", model: "stageModel" };

let settings;
let backend;
let shown = null; // the result on the page: {view, result, file}
let recording = null;
let working = null;

// -- views ---------------------------------------------------------------------------------------

function select(view, focus = false) {
  for (const name of VIEWS) {
    const here = name === view;
    at(name).hidden = !here;
    at(`tab-${name}`).setAttribute("aria-selected", here);
    at(`tab-${name}`).tabIndex = here ? 0 : -1;
  }
  if (focus) at(`tab-${view}`).focus();
}

function prepareTabs() {
  for (const name of VIEWS) {
    at(`tab-${name}`).onclick = () => select(name);
    at(`tab-${name}`).onkeydown = ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (step) select(VIEWS[(VIEWS.indexOf(name) + step + VIEWS.length) % VIEWS.length], true);
    };
  }
}

const state = (name) => ["start", "recorder", "working"].forEach((id) => (at(id).hidden = id !== name));

function fail(sentence) {
  state("start");
  at("problem").textContent = sentence;
}

// -- one clip --------------------------------------------------------------------------------------

const options = () => ({
  voiceOnly: at("voice-only").checked,
  allFaces: at("all-faces").checked,
  model: at("model").value,
});

function progress({ stage, share, read_s, position, seconds }) {
  if (stage !== working.stage) Object.assign(working, { stage, since: performance.now() });
  const bar = at("bar");
  if (share === undefined || share === null || stage === "model") bar.removeAttribute("value");
  else bar.value = share;
  if (stage === "busy") at("stage").textContent = text("stageBusy", { position, seconds });
  else if (stage === "queue") at("stage").textContent = text("stageQueue", { position });
  else if (stage === "upload") at("stage").textContent = text("stageUpload");
  else at("stage").textContent = spent(text(STAGES[stage]), share, read_s);
}

// A stage, how much of it is done, and how long it will take at this pace.
function spent(stage, share, read) {
  if (share === null && read) return text("stageRead", { stage, seconds: number(read, 0) });
  if (!share || share >= 1) return stage;
  const left = ((performance.now() - working.since) / 1000) * (1 / share - 1);
  const values = { stage, percent: percent(share), seconds: number(Math.max(left, 1), 0) };
  return text(share > 0.1 ? "stageLeft" : "stageShare", values);
}

async function classify(file) {
  shown?.view.close();
  shown = null;
  at("problem").textContent = at("announce").textContent = "";
  state("working");
  const mine = (working = { abort: new AbortController(), stage: null, since: 0 });
  try {
    const result = await backend.classify(file, options(), progress, mine.abort.signal);
    if (mine !== working) return;
    show(result, file);
  } catch (error) {
    if (mine !== working) return;
    if (error.name === "AbortError") state("start");
    else fail(error.message);
  }
}

function show(result, file) {
  state("start");
  select("clip");
  shown?.view.close();
  const view = new ResultView(at("result"), { result, file, backend, colours: settings.colours });
  shown = { view, result, file };
  at("announce").textContent = announcement(result);
  document.body.dataset.label = result.label ?? "none";
  at("headline").focus({ preventScroll: true });
  at("result").scrollIntoView({ block: "start" });
}

async function sample(name) {
  try {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    const type = TYPES[name.split(".").pop()];
    await classify(new File([await answer.blob()], name, { type }));
  } catch (error) {
    fail(text("noSample", { why: error.message }));
  }
}

// -- recording -------------------------------------------------------------------------------------

async function record(camera) {
  at("problem").textContent = "";
  try {
    recording = await Recorder.start({ camera, level: (share) => (at("level").value = share) });
  } catch (error) {
    fail(text(camera ? "noCamera" : "noMicrophone", { why: error.message }));
    return;
  }
  shown?.view.close();
  shown = null;
  state("recorder");
  at("preview").hidden = !camera;
  at("preview").srcObject = camera ? recording.media : null;
  if (camera) at("preview").play();
  at("stop").focus();
  const tick = () => {
    if (!recording) return;
    at("clock").textContent = text("recordedFor", { seconds: number(recording.seconds, 0) });
    if (settings.duration_s && recording.seconds >= settings.duration_s) at("stop").click();
    else setTimeout(tick, 200);
  };
  tick();
}

async function stopRecording(keep) {
  const ended = recording;
  recording = null;
  at("preview").srcObject = null;
  if (keep) await classify(await ended.stop());
  else {
    ended.close();
    state("start");
  }
}

// -- start -----------------------------------------------------------------------------------------

function wire() {
  at("record-camera").onclick = () => record(true);
  at("record-microphone").onclick = () => record(false);
  at("stop").onclick = () => recording && stopRecording(true);
  at("discard").onclick = () => recording && stopRecording(false);
  at("cancel").onclick = () => working.abort.abort();
  at("file").onchange = ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) classify(file);
  };
  for (const [id, name] of Object.entries(SAMPLES)) at(id).onclick = () => sample(name);
  const many = new ManyClips({ backend, settings, options, open: (row) => show(row.result, row.file) });
  droppable(at("upload"), ([file]) => classify(file));
  droppable(at("upload-many"), (files) => many.add(files));
  return many;
}

function droppable(zone, take) {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      const files = [...(event.dataTransfer?.files ?? [])];
      if (kind === "drop" && files.length) take(files);
    });
  }
}

function describe() {
  const local = settings.backend === "browser";
  at("lead").textContent = text(backend.hasVideo ? "leadBoth" : "leadVoice");
  at("live-lead").textContent = text(local ? "liveLeadBrowser" : "liveLeadServer");
  const values = { seconds: settings.duration_s, size: settings.upload_mb };
  at("privacy").textContent = text(local ? "privacyBrowser" : "privacyServer", values);
  at("model").replaceChildren(
    element("option", { value: "" }, text("modelAuto")),
    ...models.map(({ name }) => element("option", { value: name }, name)),
  );
  at("options").hidden = !backend.hasVideo;
  at("record-camera").hidden = at("sample-video").hidden = !backend.hasVideo;
}

async function signIn() {
  at("token").hidden = false;
  at("token").querySelector("input").focus();
  await new Promise((resolve) => {
    at("token").onsubmit = (event) => {
      event.preventDefault();
      backend.signIn(at("token").querySelector("input").value);
      resolve();
    };
  });
  at("token").hidden = true;
}

let models;

async function start() {
  setLanguage(currentLanguage());
  at("language").value = currentLanguage();
  state("start");
  select("clip");
  at("start").inert = true;
  settings = await (await fetch("settings.json")).json();
  const { Backend } = await import(`./${settings.backend}.js`);
  backend = new Backend(settings);
  at("announce").textContent = text("loading");
  while (!(models = await backend.models())) {
    at("token").querySelector("[role=alert]").textContent = backend.token ? text("tokenWrong") : "";
    await signIn();
  }
  const many = wire();
  new LiveView({ backend, colours: settings.colours, names: models[0].emotions });
  describe();
  prepareTabs();
  at("language").onchange = ({ target }) => {
    setLanguage(target.value);
    describe();
    many.draw();
    if (shown) show(shown.result, shown.file);
  };
  for (const { name } of models) at("cards").append(card((await backend.card(name)) || `# ${name}`));
  at("start").inert = false;
  at("announce").textContent = "";
  document.body.dataset.ready = "yes";
}

start().catch((error) => (at("problem").textContent = text("notLoaded", { why: error.message })));
