"""Plotly draws a chart as several SVG layers; this saves them as one file, in the browser."""

from __future__ import annotations


def save_svg_js(plot: str, name: str) -> str:
    """JavaScript for a button: save the chart inside the element with id ``plot`` as ``name``.svg."""
    return f"""() => {{
      const chart = document.querySelector("#{plot} .js-plotly-plot");
      const layers = chart ? [...chart.querySelectorAll("svg.main-svg")] : [];
      if (!layers.length) return;
      const {{width, height}} = layers[0].getBoundingClientRect();
      const parts = layers.map((layer) => new XMLSerializer().serializeToString(layer));
      const size = `width="${{width}}" height="${{height}}" font-family="sans-serif"`;
      const text = `<svg xmlns="http://www.w3.org/2000/svg" ${{size}}>${{parts.join("")}}</svg>`;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], {{type: "image/svg+xml"}}));
      link.download = "{name}.svg";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }}"""
