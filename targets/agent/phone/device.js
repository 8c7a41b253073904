// What this browser says about itself: enough to read a result by, nothing that identifies anybody.

/** Plain facts for the result. `isolated` decides on threads, `secure` on WebGPU. */
export async function device() {
  const told = navigator.userAgentData;
  const [browser, platform] = told ? [brand(told.brands), told.platform] : guess(navigator.userAgent);
  return {
    browser,
    platform,
    mobile: told?.mobile ?? /Mobi/.test(navigator.userAgent),
    cores: navigator.hardwareConcurrency ?? null,
    memory_gb: navigator.deviceMemory ?? null,
    secure: isSecureContext,
    isolated: self.crossOriginIsolated,
    webgpu: 'gpu' in navigator,
    screen: `${screen.width} x ${screen.height} at ${devicePixelRatio}`,
  };
}

/** The GPU's adapter; an Error in words where there is none. */
export async function gpuAdapter() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('this browser offers no WebGPU adapter; leave --webgpu out');
  return adapter;
}

/** Chromium says its real version here even where the user-agent string pretends. */
function brand(brands) {
  const real = brands.filter(({brand}) => !/not.*brand/i.test(brand));
  const named = real.find(({brand}) => brand !== 'Chromium') ?? real[0];
  return named ? `${named.brand} ${named.version}` : 'Chromium';
}

function guess(text) {
  const name = [['Firefox', /(?:Firefox|FxiOS)\/([\d.]+)/], ['Edge', /EdgA?\/([\d.]+)/], ['Chrome', /(?:Chrome|CriOS)\/([\d.]+)/],
    ['Safari', /Version\/([\d.]+).*Safari/]].map(([name, pattern]) => [name, pattern.exec(text)?.[1]]).find(([, version]) => version);
  const platform = ['iPhone', 'iPad', 'Android', 'Mac OS X', 'Windows', 'Linux'].find((name) => text.includes(name)) ?? 'unknown';
  return [name ? name.join(' ') : 'unknown browser', platform.replace('Mac OS X', 'macOS')];
}
