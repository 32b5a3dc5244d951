"""The words of the letters, in Spanish.

Rule of this room: words only, the same letters as in English and not their translation. `usted`, no gender where the
language lets us, and the commands as they are typed. Marks as in letters_en.
"""

from collections.abc import Mapping
from typing import Final

_DAYS: Final = ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo")
_MONTHS: Final = (
    *("enero", "febrero", "marzo", "abril", "mayo", "junio"),
    *("julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"),
)


def write_date(weekday: int, day: int, month: int, year: int) -> str:
    return f"{_DAYS[weekday]} {day} de {_MONTHS[month - 1]} de {year}"


SUBJECT: Final = "Recordatorio"
SOMEBODY: Final = "la persona que confió en usted"

COLLEAGUE: Final = "una de las personas de confianza"
# How a colleague who holds a release knows that she was reached.
BECAUSE: Final[Mapping[str, str]] = {
    "reached": "hubo una conversación",
    "hospital": "está en un hospital",
    "known-safe": "se sabe que está a salvo",
}

CHANGES: Final[Mapping[str, str]] = {
    "roster": "un cambio en quiénes pueden abrir lo confiado",
    "plan": "plazos más largos entre los avisos",
    "destroy": "la destrucción de lo confiado",
    "pause": "una pausa larga, durante la cual no se espera ninguna señal de vida",
    "address": "la eliminación de una dirección a la que se envían cartas",
}

# What the operator is told of; the letter around it says what to run.
TROUBLES: Final[Mapping[str, str]] = {
    "door-shut": "desde hace diez minutos nadie logra entrar por su puerta pública, así que el tiempo no corre y no "
    "sale ningún aviso. Revise la línea, el proxy, el certificado y el nombre.",
    "door-shut-long": "desde hace un día entero nadie logra entrar por su puerta pública. A todas las personas con un "
    "plazo en marcha, y a sus colegas, se les avisa ahora de que el tiempo no corre y de que se busquen "
    "por otros medios.",
    "door-open": "ya se puede entrar de nuevo por su puerta pública y el tiempo vuelve a correr. A quienes supieron "
    "del corte se les avisa de que terminó. Por favor, averigüe a qué se debió.",
    "clock-jumped": "su reloj saltó más de cinco minutos. Ningún plazo se cuenta con ese reloj, pero sí todas las "
    "fechas que se muestran a las personas. Revise qué lo mantiene en hora.",
}

NEVER: Final = """
Escriba su frase de contraseña y sus 24 palabras únicamente en su propia computadora. Nadie se las pedirá jamás
por correo, por teléfono ni en persona; quien lo haga no habla en nuestro nombre. Esta carta no contiene ningún
enlace que deba abrir, y nadie lee las respuestas.
"""

GENUINE: Final = """
Una carta auténtica termina con la frase que usted eligió:

$ {phrase}
"""

NO_PHRASE: Final = """
Usted no ha elegido una frase de reconocimiento, así que una carta falsa tendría el mismo aspecto que esta. Crea
lo que le muestre su propia computadora, no lo que diga una carta: ejecute `afterword status`.
"""

TO_OPERATOR: Final = """
Las cartas a quien opera un servidor no llevan frase: crea lo que muestre `afterword operator status` en el servidor,
no lo que diga una carta.
"""

LETTERS: Final[Mapping[str, str]] = {
    "code": """
Alguien, seguramente usted, pidió que se enviaran cartas a esta dirección. Si fue usted, ejecute esto en su
computadora:

$ afterword address confirm {code}

Si no fue usted, no haga nada. No llegará ninguna carta aquí mientras nadie introduzca el código.
""",
    "check-in": """
Es hora de dar señal de vida.

En su computadora, ejecute:

$ afterword checkin

Le pedirá su frase de contraseña y tardará unos segundos. Solo esto cuenta como señal de vida. Leer esta carta o
responderla no cuenta.

Si no da señal antes del {due}, se pedirá a sus colegas que intenten localizarle.

Si no se sabe nada de usted en todo ese tiempo, podrán abrir lo que les dejó, pero no antes del {release}. Estas
fechas valen si el servidor sigue funcionando. Si se detiene, se retrasan; nunca se adelantan.

¿Perdió su computadora o no funciona? En otra, sus 24 palabras lo recuperan todo: `afterword join --from-words`.
""",
    "last-warning": """
Usted no ha dado señal de vida, y se está pidiendo a sus colegas que intenten localizarle.

Si está bien, ejecute esto ahora en su computadora:

$ afterword checkin

Con eso termina la alarma, y quienes la recibieron sabrán que ha terminado. Después hable con sus colegas por
teléfono: una voz conocida tranquiliza más que una carta.

Si no da señal antes del {due}, comenzará la última etapa.

Si no se sabe nada de usted en todo ese tiempo, sus colegas podrán abrir lo que les dejó, pero no antes del
{release}. Estas fechas valen si el servidor sigue funcionando. Si se detiene, se retrasan; nunca se adelantan.

¿Perdió su computadora o no funciona? En otra, sus 24 palabras lo recuperan todo: `afterword join --from-words`.
""",
    "last-call": """
Esta es la última carta antes de la entrega.

Ejecute esto ahora en su computadora:

$ afterword checkin

Si no se sabe nada de usted antes del {release}, sus colegas podrán abrir lo que les dejó. Después, nadie podrá
dar marcha atrás: ni usted, ni sus colegas, ni quien administra el servidor. Esta fecha vale si el servidor
sigue funcionando. Si se detiene, se retrasa; nunca se adelanta.

¿No puede llegar a una computadora? Llame a sus colegas. No pueden impedir la entrega, pero sí aplazarla unos días;
sabrán que usted vive, y son quienes deciden qué se publica.

¿Perdió su computadora o no funciona? En otra, sus 24 palabras lo recuperan todo: `afterword join --from-words`.
""",
    "reach-her": """
No ha llegado la señal de vida que se esperaba de {who}. Muchas veces hay un motivo inofensivo. Por favor,
intente comunicarse ahora con {who}:

- Llame, vaya en persona o pida ayuda a alguien que esté cerca. Use un número que ya tenga, nunca uno que venga
en una carta.

- No escriba sobre esto por correo ni por chat: alguien más podría estar leyendo.

- Si logra hablar con {who}, pida una sola cosa: que dé señal de vida desde su propia computadora (`afterword
checkin`). Nada más pone fin a la alarma, y responder a esta carta tampoco. Preste atención a cualquier indicio
de que no puede hablar con libertad.

- Si {who} está a salvo y no puede llegar ahora a una computadora, `afterword hold` detiene el plazo unos días.

- Si no lo logra, ejecute `afterword inbox`. La página que le dejaron dice a quién llamar después
y a qué despacho de abogados acudir.

- No publique nada ni hable de esto con quien no necesite saberlo.

Si el silencio continúa, usted podrá abrir lo que se le confió, pero no antes del {release}. Hasta entonces no
hay nada que abrir. Esta fecha vale si el servidor sigue funcionando; si se detiene, se retrasa, nunca se
adelanta.
""",
    "reach-her-again": """
Sigue sin haber señales de vida de {who}. Por favor, inténtelo otra vez y por otras vías:

- Llame, vaya en persona, pregunte a la familia, en el vecindario, en la redacción, en el despacho de abogados.
Use números que ya tenga, nunca uno que venga en una carta.

- No escriba sobre esto por correo ni por chat: alguien más podría estar leyendo.

- Si logra hablar con {who}, pida una sola cosa: que dé señal de vida desde su propia computadora (`afterword
checkin`). Nada más pone fin a la alarma, y responder a esta carta tampoco. Preste atención a cualquier indicio
de que no puede hablar con libertad.

- Si {who} está a salvo y no puede llegar ahora a una computadora, `afterword hold` detiene el plazo unos días.

- Ejecute `afterword inbox` y lea la página que le dejaron. Compruebe que su computadora y su
frase de contraseña funcionan, y que sabe cómo llamar a los demás colegas.

- No publique nada todavía.

Si no llega ninguna señal de vida, usted podrá abrir lo que se le confió, pero no antes del {release}. Hasta
entonces no hay nada que abrir. Esta fecha vale si el servidor sigue funcionando; si se detiene, se retrasa,
nunca se adelanta.
""",
    "unreached": """
No se pudo entregar una carta dirigida a {who}: ninguna de las direcciones a las que se envió la acepta. Puede
que solo sea un buzón lleno o un servidor de correo averiado. Aun así, es posible que {who} no sepa que tiene
pendiente dar señal de vida.

- Por favor, llame. Use un número que ya tenga, nunca uno que venga en una carta.

- Diga: «Ejecute `afterword checkin` y revise sus direcciones con `afterword status`».

- No escriba sobre esto por correo ni por chat, y no alarme todavía a otras personas. Si el silencio continúa,
volveremos a avisarle.

Para ver cómo están las cosas, ejecute `afterword inbox`.
""",
    "release": """
Algo que se le confió ya se puede abrir. Esto no tiene marcha atrás y no hace falta apresurarse: nada se
borrará.

- Vaya a un lugar donde se sienta a salvo y use su propia computadora. Ejecute:

$ afterword inbox

- Comprobará que esto es cierto, mostrará la última señal de vida y le dirá qué hacer a continuación.

- Antes que nada, lea la página que le dejaron: dice a quién llamar y qué no debe publicarse mientras pueda
haber una vida en juego.

- Hacen falta varias personas. Llame a los demás colegas, a números que ya tenga, y pídales que ejecuten también
`afterword inbox`.

- No reenvíe esta carta ni escriba sobre esto por correo ni por chat. No publique nada antes de que hayan
hablado entre ustedes.

¿Perdió su computadora o no funciona? En otra, sus 24 palabras lo recuperan todo: `afterword join --from-words`.

Esta carta se repite, cada vez con menos frecuencia, hasta que `afterword recover` lo haya traído todo a su
computadora. Si no quiere recibir más, `afterword leave` les pone fin.
""",
    "released-her": """
No llegó ninguna señal de vida suya en todo el plazo que usted había fijado, y sus colegas ya pueden abrir lo
que les dejó. Nadie puede dar marcha atrás.

Si está a salvo, llame ahora a sus colegas. Qué se publica, y cuándo, pueden decidirlo en común. Para ver quién
lo ha abierto, ejecute:

$ afterword status

Lo que deposite a partir de ahora necesita un expediente nuevo: este ya no acepta nada más.
""",
    "all-clear": """
La alarma sobre {who} ha terminado: llegó una señal de vida, firmada con la clave correcta.

No tiene que hacer nada. Si estaba a punto de llamar, una llamada amistosa sigue siendo buena idea: pregunte si
de verdad todo está bien. Para ver cómo están las cosas, ejecute `afterword inbox`.

Por favor, avise por teléfono a quienes haya pedido ayuda.
""",
    "change-asked": """
Se ha solicitado un cambio en algo que se le confió: {change}.

No ocurre de inmediato, para que todos puedan verlo venir.

Tendrá efecto no antes del {effect}, si el servidor sigue funcionando.

- Llame a quien se lo confió, a un número que ya tenga, y pregunte: ¿lo pidió usted?, ¿fue por su propia
voluntad? No lo pregunte por correo ni por chat.

- Si no fue así, esa persona puede detenerlo con `afterword cancel`. Usted no puede detenerlo, pero sí avisarle,
y avisarse entre colegas.

Para ver qué se solicitó, ejecute `afterword inbox`.
""",
    "change-cancelled": """
Un cambio del que se le había avisado no se hará: {change}. Se canceló, o la entrega llegó antes; en ese caso lo
sabrá por otra carta.

No tiene que hacer nada. Para ver cómo están las cosas, ejecute `afterword inbox`.
""",
    "change-done": """
Un cambio del que se le había avisado ya tiene efecto: {change}.

Para ver qué significa para usted, ejecute `afterword inbox`. Si cambió la lista de colegas,
`afterword drill` comprueba que su nueva parte es buena; por favor, ejecútelo hoy.
""",
    "pause-ended": """
Su pausa ha terminado y se vuelve a esperar que dé señal de vida.

La próxima debe llegar antes del {due}.

En su computadora, ejecute:

$ afterword checkin

Si no se sabe nada de usted en todo ese tiempo, sus colegas podrán abrir lo que les dejó, pero no antes del
{release}. Estas fechas valen si el servidor sigue funcionando. Si se detiene, se retrasan; nunca se adelantan.
""",
    "operator-unreached": """
Ninguna dirección de una cuenta ha aceptado una carta en todo el tiempo que un aviso espera por ella. Ya se
avisó a sus colegas. A partir de ahora sus avisos siguen corriendo sin la carta; por favor, revíselo hoy.

La cuenta: {account}

- ¿Funciona bien el servidor de correo? Ejecute `afterword operator status`, y también `afterword doctor`, que
envía una carta de verdad.

- Si solo afecta a esta cuenta, son sus direcciones las que nos rechazan. No hay nada más que usted pueda leer
ni necesite saber.
""",
    "operator-trouble": """
El servidor le necesita: {trouble}

Ejecute en él `afterword operator status` y después `afterword doctor`. Ninguna avería provoca una entrega: lo
que no se puede leer se queda quieto, y hay personas esperando; por favor, revíselo hoy.

El servidor: {host}
""",
    "outage": """
Desde hace un día no se puede entrar por su puerta pública al servidor que envía estas cartas. A quien lo cuida
se le avisa.

- Nada se ha perdido y nada se entrega mientras tanto: el tiempo en que nadie puede dar señal de vida no cuenta.
Nadie queda en falta.

- Hasta que vuelva tampoco sale ningún aviso. Por eso, no espere que el servidor le diga si alguien está bien:
búsquense por otros medios, con números que ya tengan.

- No escriba sobre esto por correo ni por chat.

No tiene que hacer nada en su computadora. Le avisaremos cuando haya terminado.
""",
    "outage-over": """
El servidor al que, según le dijimos, no se podía entrar vuelve a estar accesible, y el tiempo sigue desde donde se
había detenido.

Nada se entregó por esa causa. Las alarmas en marcha comenzaron de nuevo su etapa actual, así que algunas fechas son
posteriores a las que conocía.

Para ver cómo están las cosas, ejecute `afterword status`. De quien se espera una señal de vida, que la dé ahora:

$ afterword checkin
""",
    "held": """
Firmado por {colleague}: hay noticias de {who}, así que todo queda detenido por un tiempo.

El motivo indicado: {because}.

Hasta el {until} no corre ningún plazo hacia la entrega, si el servidor sigue funcionando; después sigue desde donde
estaba.

Nada se abre antes del {release}.

- Es la palabra de colegas, y no una señal de vida. Llame a {colleague}, a un número que ya tenga, y
pregunte cómo lo sabe.

- Si tiene alguna duda, siga intentando comunicarse con {who} y pida una sola cosa: que dé señal de vida desde su
propia computadora (`afterword checkin`). Nada más pone fin a la alarma.

- No escriba sobre esto por correo ni por chat. No publique nada.

Para ver quién lo detuvo, y cuándo, ejecute `afterword inbox`.
""",
    "hold-asked": """
Firmado por {colleague}: hay noticias de {who} y todo debería quedar detenido por un tiempo.

El motivo indicado: {because}.

Ya se detuvo dos veces, así que nada se detiene hasta que firme también otra persona. Mientras tanto, el plazo sigue
corriendo.

Nada se abre antes del {release}, si el servidor sigue funcionando.

- Llame a {colleague}, a un número que ya tenga, y pregunte cómo lo sabe. Después intente comunicarse usted con
{who}.

- Solo si tiene la certeza, firme también, con el nombre del expediente:

$ afterword hold NOMBRE

- Si tiene alguna duda, no haga nada y hable con los demás colegas. Solo una señal de vida de {who} pone fin a la
alarma.

- No escriba sobre esto por correo ni por chat. No publique nada.

Para ver cómo están las cosas, ejecute `afterword inbox`.
""",
    "left": """
{colleague} ya no participa en algo que usted confió a sus colegas. Tuvo efecto de inmediato: ya no recibe cartas
sobre ello, y la parte que guarda sigue siendo válida hasta que usted cambie la lista de colegas.

- Llame a {colleague}, a un número que ya tenga, y pregunte: ¿lo pidió usted?, ¿fue por su propia voluntad? No lo
pregunte por correo ni por chat.

- Con una persona menos es más difícil que haya suficientes llegado el día. Para ver quiénes quedan, ejecute:

$ afterword status

- Para nombrar a otra persona, o de nuevo a la misma, use `afterword roster`.
""",
    "operator-crowd": """
Muchos expedientes han quedado en silencio a la vez: {many} en una hora, más de la décima parte de todos los que
aquí están armados. Si no son de una sola persona, es más probable que el problema sea nuestro, o de una región, que
de ellas.

- ¿Pueden llegar a este servidor? Pruebe desde fuera su dirección pública y ejecute `afterword doctor`.

- ¿Llegan las cartas? Ejecute `afterword operator status`.

- ¿Está aislada una red, un proveedor de correo o un país? Entonces dígalo donde estas personas puedan oírlo.

Sus avisos salen como siempre. Si siguen calladas, cada entrega espera una vez más, doce horas como mucho. Es todo
lo que este servidor hace por sí mismo; por favor, revíselo ahora.

El servidor: {host}
""",
    "operator-crowd-waits": """
Un expediente que quedó en silencio junto con muchos otros ha llegado al final de la última etapa. La entrega espera
una vez más, doce horas como mucho, y también la de cada uno de los que siguen en silencio: {many} en total. Después
ocurre.

- Si la causa fue nuestra, o toda una región está aislada, es el momento de hacer llegar la noticia a estas
personas: solo su propia señal de vida detiene una entrega. Nadie que administre un servidor puede hacerlo.

- Para ver cómo están las cosas, ejecute `afterword operator status` y también `afterword doctor`.

El servidor: {host}
""",
    "address-failing": """
Hace un día que una de sus direcciones no acepta cartas. Esta le llega a otra de ellas.

Puede que sea un buzón lleno, o un proveedor que nos rechaza. Para ver de qué dirección se trata, ejecute:

$ afterword address list

- Si puede repararla, hágalo. Le avisaremos cuando vuelva a aceptar una carta.

- Si no puede, ejecute `afterword address add` para añadir otra, y solo después `afterword address remove` para
quitar la que falla. Mientras tanto, hay una vía menos para avisarle.
""",
    "address-well": """
La dirección suya que rechazaba las cartas vuelve a aceptarlas. No tiene que hacer nada.
""",
    "operator-no-address": """
Se hizo una entrega, y una de las personas que deben saberlo no tiene ninguna dirección: ninguna carta puede
avisarle. Su propia computadora sí, en cuanto ejecute `afterword inbox`.

La cuenta: {account}

- `afterword operator accounts` muestra qué nombre usa. Si sabe quién es, llame y diga solamente: ejecute
`afterword inbox`.

- La carta saldrá sola en cuanto confirme una dirección. Hasta entonces, `afterword operator status` nombra la
cuenta.
""",
    "test": """
Esto es una prueba y ha funcionado: las cartas llegan a esta dirección. No tiene que hacer nada.
""",
}

# What is said differently when the recipient is the journalist herself.
HERS: Final[Mapping[str, str]] = {
    "held": """
Firmado por {colleague}: hay noticias suyas, así que todo queda detenido por un tiempo.

El motivo indicado: {because}.

Hasta el {until} no corre ningún plazo hacia la entrega, si el servidor sigue funcionando; después sigue desde donde
estaba.

Esto no es una señal de vida y no pone fin a la alarma. Si está bien, ejecute esto ahora en su computadora:

$ afterword checkin

Si no se sabe nada de usted, sus colegas podrán abrir lo que les dejó, pero no antes del {release}.

Si usted no sabe nada de esto, dé señal de vida de todos modos y llame a alguien que no lo haya firmado: alguien puede
estar ganando tiempo.
""",
    "hold-asked": """
Firmado por {colleague}: hay noticias suyas y todo debería quedar detenido por un tiempo.

El motivo indicado: {because}.

Ya se detuvo dos veces, así que nada se detiene hasta que firme también otra persona. Mientras tanto, el plazo sigue
corriendo.

Si está bien, ejecute esto ahora en su computadora:

$ afterword checkin

Si no se sabe nada de usted, sus colegas podrán abrir lo que les dejó, pero no antes del {release}, si el servidor
sigue funcionando.
""",
    "all-clear": """
Ha llegado una señal de vida suya. La alarma ha terminado, y así se les comunica a sus colegas.

Si fue usted, no tiene que hacer nada. Si no lo fue, alguien tiene su computadora y su frase de contraseña:
llame ahora a sus colegas.
""",
    "change-asked": """
Se ha solicitado un cambio en su nombre: {change}.

No ocurre de inmediato, para que todos puedan verlo venir. También se avisa a sus colegas.

Tendrá efecto no antes del {effect}, si el servidor sigue funcionando.

Si fue usted, no tiene que hacer nada. Si no lo fue, o ya no lo desea, ejecute esto con el nombre de su
expediente:

$ afterword cancel NOMBRE

Si no fue usted, alguien tiene su computadora y su frase de contraseña: llame ahora a sus colegas.
""",
    "change-cancelled": """
Un cambio solicitado en su nombre no se hará: {change}. Se canceló, o la entrega llegó antes; en ese caso lo
sabrá por otra carta.

Para ver cómo están las cosas, ejecute `afterword status`.
""",
    "change-done": """
Un cambio solicitado en su nombre ya tiene efecto: {change}.

Para ver cómo están las cosas, ejecute `afterword status`. Si cambió la lista de colegas, ejecute una vez
`afterword checkin` y pida a los colegas que ejecuten `afterword drill`.
""",
}

# What is said differently to the operator, who learns no label.
OPERATORS: Final[Mapping[str, str]] = {
    "all-clear": """
Ha llegado una señal de vida de la cuenta cuyas direcciones no aceptaban ninguna carta. No tiene
que hacer nada.

La cuenta: {account}

Puede que sus direcciones sigan rechazándonos; `afterword operator status` lo muestra.
""",
}
