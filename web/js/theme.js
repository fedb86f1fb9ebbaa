// Runs before the first paint, so that a dark page never flashes white.
(() => {
    let chosen = "system";
    try {
        chosen = localStorage.getItem("weft-theme") || "system";
    } catch {
        // Storage may be forbidden; the system's appearance is taken then.
    }
    document.documentElement.dataset.theme = chosen;
})();
