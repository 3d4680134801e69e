// Reads the data, shows it, checks it, and says whether it is right.

const started = performance.now();
const data = JSON.parse(byId("data").textContent);

// All that can be checked without an edit: counts of what was checked, and what doesn't fit, in words.
function checkAll(editor, postChecks) {
  const counts = { windows: 0, readings: 0, proofs: 0, payouts: 0, posts: data.posts.length };
  const faults = [];
  data.days.forEach((day, d) => {
    counts.readings += day.items.filter((item) => item.kind !== "correction" && !item.reason).length;
    for (const window of editor.bases[d].windows) {
      const check = checkWindow(window, data.posts);
      const name = day.machine + " at " + timeText(window.stored.document.start_ms) + " on " + dayText(day.day_ms);
      counts.windows += 1;
      counts.proofs += check.posted ? 1 : 0;
      if (!check.digestHolds) faults.push("the window of " + name + " is not what its readings come to");
      else if (check.rootHolds === false) faults.push("the proof of " + name + " does not lead to the posted root");
    }
  });
  data.posts.forEach((post, i) => {
    for (const account of Object.keys(post.accounts)) {
      counts.payouts += 1;
      if (!checkPayout(post, account, 0n).holds)
        faults.push("the sum of " + account + " in post " + post.header.sequence + " has no proof");
    }
    const { headHolds, follows, manifestHolds } = postChecks[i];
    if (headHolds === false || manifestHolds === false)
      faults.push("post " + post.header.sequence + " is not what its hash says");
    if (follows === false) faults.push("post " + post.header.sequence + " does not follow the one before it");
  });
  return { counts, faults, elapsedMs: Math.max(1, Math.round(performance.now() - started)) };
}

function showVerdict(result, editor) {
  const box = byId("verdict");
  const { counts, faults, elapsedMs } = result;
  const isEdited = Boolean(editor && editor.edits.size);
  box.className = "verdict " + (faults.length || isEdited ? "bad" : "good");
  box.dataset.state = isEdited ? "edited" : faults.length ? "bad" : "good";
  if (isEdited) {
    put(box, h("p", {}, h("strong", {}, editor.headline())), h("p", {}, editor.consequence()));
    return;
  }
  const good = "✓ This page has checked itself, and everything fits. ";
  put(
    box,
    h(
      "p",
      {},
      h("strong", {}, faults.length ? "✗ " + plural(faults.length, "thing") + " in this page do not fit. " : good),
    ),
    faults.length
      ? h(
          "ul",
          {},
          faults.slice(0, 8).map((fault) => h("li", {}, fault)),
        )
      : null,
    h(
      "p",
      { class: "small" },
      [
        plural(counts.windows, "window") + " recomputed from " + plural(counts.readings, "reading"),
        counts.proofs && plural(counts.proofs, "proof") + " followed up to posted roots",
        counts.payouts && plural(counts.payouts, "payout") + " proven",
        counts.posts && plural(counts.posts, "post") + " chained by their hashes",
      ]
        .filter(Boolean)
        .join(", ") +
        ": here, in " +
        elapsedMs +
        " ms, without a network.",
    ),
  );
}

function start() {
  const colors = kindColors(data);
  const postChecks = data.posts.map((post) => checkPost(post, data));
  showPeriod(data);
  showFigures(data);
  showFlow(data, colors);
  let editor = null;
  let result = null;
  const pick = (index) => {
    editor.open(index);
    byId("check").scrollIntoView();
    editor.picker.focus();
  };
  showIncome(data, colors, pick);
  showPosts(data, postChecks);
  showRefused(data);
  showSigns(data);
  showMachines(data);
  showAbout(data);
  // What is above is painted first: on a phone the check takes a moment.
  put(byId("verdict"), h("p", {}, "This page is checking itself …"));
  setTimeout(() => {
    if (data.days.length)
      editor = new DayEditor(byId("editor"), data, (changed) => result && showVerdict(result, changed));
    else
      put(
        byId("editor"),
        h("p", { class: "quiet" }, "No day of a machine is final yet: wait until an epoch ends, and write this page again."),
      );
    result = checkAll(editor ?? { bases: [] }, postChecks);
    showVerdict(result, editor);
  }, 20);
}

start();
