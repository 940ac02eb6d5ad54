// A click on a command copies it. Without this script, selecting it does.
document.addEventListener("click", async (event) => {
  const command = event.target.closest("code.command");
  if (!command || !navigator.clipboard) return;
  try {
    await navigator.clipboard.writeText(command.textContent);
    command.dataset.copied = "copied";
    setTimeout(() => delete command.dataset.copied, 1500);
  } catch {
    // the browser said no; the text is selected all the same
  }
});
