"use strict";
// Sound comes from <audio> elements because a page on a disk may not read files in any other way. All of a mixture's
// run together; which of them are heard is a matter of muting. The first that is heard keeps the time.

const STEP_S = 0.04; // by how much the others may be early or late before they are put right
const REST_MS = 1000; // for as long one that was put right is left alone: each time is heard as a small gap

const players = [...document.querySelectorAll(".mixture")].map((mixture) => {
  const tracks = [...mixture.querySelectorAll(".track")];
  const sounds = tracks.map((track) => track.querySelector("audio"));
  const [whole, ...stems] = sounds;
  const rows = tracks.slice(1);
  const play = mixture.querySelector(".play");
  const everything = mixture.querySelector(".all");
  const repeat = mixture.querySelector(".repeat");
  const slider = mixture.querySelector("input");
  const time = mixture.querySelector("output");
  const problem = mixture.querySelector(".problem");
  const length = Number(slider.max);
  const number = mixture.id.replace("mixture-", "");
  let playing = false;
  let position = 0;
  const moved = new Map(sounds.map((sound) => [sound, 0]));

  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const muteOf = (row) => row.querySelector(".mute");
  const soloOf = (row) => row.querySelector(".solo");

  function listen() {
    const soloed = rows.some((row) => pressed(soloOf(row)));
    const heard = rows.map((row) => (soloed ? pressed(soloOf(row)) : !pressed(muteOf(row))));
    const all = heard.every(Boolean);
    whole.muted = !all;
    stems.forEach((stem, i) => (stem.muted = all || !heard[i]));
    rows.forEach((row, i) => row.classList.toggle("silenced", !heard[i]));
    everything.hidden = all;
  }

  function show() {
    mixture.style.setProperty("--at", position / length);
    slider.value = position;
    slider.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${length} seconds`);
    time.textContent = `${position.toFixed(1)} s`;
  }

  function state(now) {
    playing = now;
    mixture.classList.toggle("playing", now);
    play.textContent = now ? "Pause" : "Play";
    play.setAttribute("aria-label", `${play.textContent} mixture ${number}`);
  }

  function seek(to) {
    position = Math.min(Math.max(to, 0), length);
    mixture.classList.add("started");
    for (const sound of sounds) if (sound.readyState) sound.currentTime = position;
    show();
  }

  function ready(sound) {
    return new Promise((done, fail) => {
      if (sound.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return done();
      sound.addEventListener("canplay", done, { once: true });
      sound.addEventListener("error", () => fail(new Error(decodeURI(sound.getAttribute("src")))), { once: true });
      sound.preload = "auto";
      sound.load();
    });
  }

  async function start() {
    for (const other of players) if (other.stop !== stop) other.stop();
    state(true);
    listen();
    if (position >= length - 0.02) position = 0;
    try {
      await Promise.all(sounds.map(ready));
      if (!playing) return; // paused while it loaded
      problem.hidden = true;
      seek(position);
      await Promise.all(sounds.map((sound) => sound.play()));
      requestAnimationFrame(follow);
    } catch (error) {
      if (error.name === "AbortError") return; // paused before it began
      stop();
      problem.textContent = `This can't be played (${error.message}): is the file still beside the page?`;
      problem.hidden = false;
    }
  }

  function stop() {
    if (playing) state(false);
    sounds.forEach((sound) => sound.pause());
  }

  function follow(now) {
    if (!playing) return;
    const first = sounds.find((sound) => !sound.muted) ?? whole;
    position = first.currentTime;
    for (const sound of sounds) {
      const off = Math.abs(sound.currentTime - position) > STEP_S;
      if (off && !sound.ended && now - moved.get(sound) > REST_MS) {
        sound.currentTime = position;
        moved.set(sound, now);
      }
    }
    show();
    requestAnimationFrame(follow);
  }

  for (const sound of sounds) {
    sound.addEventListener("ended", () => {
      if (!playing || !sounds.every((each) => each.ended || each.muted)) return;
      stop();
      seek(pressed(repeat) ? 0 : length);
      if (pressed(repeat)) start();
    });
  }
  play.addEventListener("click", () => (playing ? stop() : start()));
  repeat.addEventListener("click", () => press(repeat, !pressed(repeat)));
  slider.addEventListener("input", () => seek(Number(slider.value)));
  for (const picture of mixture.querySelectorAll(".picture")) {
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      seek((length * (event.clientX - box.left)) / box.width);
    });
  }
  everything.addEventListener("click", () => {
    for (const row of rows) [muteOf(row), soloOf(row)].forEach((button) => press(button, false));
    listen();
  });
  rows.forEach((row) => {
    for (const button of [muteOf(row), soloOf(row)]) {
      button.addEventListener("click", () => {
        press(button, !pressed(button));
        listen();
      });
    }
    row.querySelector(".alone").addEventListener("click", () => {
      for (const other of rows) press(soloOf(other), other === row);
      seek(0);
      if (playing) listen();
      else start();
    });
  });

  // With this script the mixture has controls of its own; without it each file keeps the browser's.
  sounds.forEach((sound) => {
    sound.controls = false;
    sound.volume = Number(mixture.dataset.gain);
  });
  mixture.querySelectorAll(".transport, .switches").forEach((controls) => (controls.hidden = false));
  listen();
  show();
  return { stop };
});
