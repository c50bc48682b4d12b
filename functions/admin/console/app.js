const answer = await fetch("health");
const { status } = await answer.json();
document.getElementById("health").textContent = status === "up" ? "Messages are taken." : "No messages are taken.";
