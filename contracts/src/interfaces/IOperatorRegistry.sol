// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title OperatorRegistry: who may answer, with what at stake
/// @notice An operator is an account (its owner, best a cold or multisig account) with three further roles: the hot key
/// that signs results, the hot key that sends transactions and holds nothing but gas, and the account that receives money.
/// Operators join sets with a bond. A set's membership is versioned by epochs; the escrow pins an epoch's hash in each
/// request, so a later epoch never changes who answers a live request. A revoked signer is refused at once, also for live
/// requests: revoking can only take power away.
/// @dev Every event carries `sequence`, which grows by exactly one per event of this contract.
interface IOperatorRegistry {
    /* TYPES */

    struct Operator {
        /// The hot key (or ERC-1271 contract) that signs results; the zero address after a revocation.
        address signer;
        /// The hot key that sends transactions.
        address transmitter;
        /// Where withdrawn bonds go.
        address withdrawal;
        /// A signer that can become active at `signerActiveAt`; the zero address when there is none.
        address pendingSigner;
        uint64 signerActiveAt;
        /// A withdrawal address that can become active at `withdrawalActiveAt`; the zero address when there is none.
        address pendingWithdrawal;
        uint64 withdrawalActiveAt;
    }

    /* EVENTS */

    event OperatorRegistered(
        uint64 sequence, address indexed owner, address indexed signer, address transmitter, address withdrawal
    );
    /// @notice A new signer was announced; it can become active at `activeAt`.
    event SignerProposed(uint64 sequence, address indexed owner, address indexed signer, uint64 activeAt);
    event SignerActivated(uint64 sequence, address indexed owner, address indexed signer);
    /// @notice A signer counts no more, anywhere, from this block on, and can never be registered again.
    event SignerRevoked(uint64 sequence, address indexed owner, address indexed signer);
    event TransmitterChanged(uint64 sequence, address indexed owner, address indexed transmitter);
    event WithdrawalProposed(uint64 sequence, address indexed owner, address indexed withdrawal, uint64 activeAt);
    event WithdrawalActivated(uint64 sequence, address indexed owner, address indexed withdrawal);
    event SetCreated(
        uint64 sequence, uint64 indexed setId, address indexed admin, address bondToken, uint128 bond, address referee
    );
    /// @notice The admin named the members of a coming epoch; each of them must have joined before it can start.
    event EpochProposed(
        uint64 sequence, uint64 indexed setId, uint64 epoch, uint8 threshold, address[] operators, uint64 activeAt
    );
    /// @notice An epoch started. `operators[i]` signs with `signers[i]`; `signers` is strictly ascending.
    event EpochStarted(
        uint64 sequence,
        uint64 indexed setId,
        uint64 epoch,
        uint8 threshold,
        address[] operators,
        address[] signers,
        bytes32 operatorSetHash
    );
    event Joined(uint64 sequence, uint64 indexed setId, address indexed owner, uint128 bond);
    event UnbondingStarted(uint64 sequence, uint64 indexed setId, address indexed owner, uint64 releaseAt);
    event BondReleased(uint64 sequence, uint64 indexed setId, address indexed owner, address to, uint128 amount);
    event BondSlashed(
        uint64 sequence,
        uint64 indexed setId,
        address indexed owner,
        bytes32 indexed requestId,
        uint128 amount,
        address beneficiary
    );

    /// @notice `amount` of slashed bonds in `token` was paid out to `account`.
    event Withdrawn(uint64 sequence, address indexed account, address indexed token, uint256 amount);

    /* ERRORS */

    error Reentered();
    error AlreadyRegistered(address owner);
    error NotRegistered(address owner);
    /// @notice Thrown when two of an operator's three roles are one account.
    error RolesNotSeparate(address account);
    /// @notice Thrown when two operators would share one signing key, or a revoked key is used again.
    error SignerTaken(address signer);
    /// @notice Thrown when a caller revokes a key that is not, and never was, its own, or that it has revoked before.
    error NotOwnSigner(address signer, address caller);
    error ZeroAddress(string field);
    error NotSetAdmin(uint64 setId, address caller);
    error UnknownSet(uint64 setId);
    /// @notice Thrown when a set is empty, over `SET_MEMBERS_MAX`, or its threshold is out of range.
    error InvalidThreshold(uint256 threshold, uint256 members);
    /// @notice Thrown when an operator is named twice.
    error DuplicateMember(address owner);
    error NotJoined(uint64 setId, address owner);
    error AlreadyJoined(uint64 setId, address owner);
    error TooEarly(uint64 activeAt);
    error NothingPending();
    error StillMember(uint64 setId, address owner);
    /// @notice Thrown when native value was sent that differs from what is due.
    error WrongBond(uint256 sent, uint256 due);
    /// @notice Thrown when the token moved another amount than asked.
    error TokenMovedOtherAmount(address token, uint256 moved, uint256 asked);
    error NativeTransferFailed(address account);
    error NothingToWithdraw(address account, address token);
    /// @notice Thrown when a bond was slashed for this request before.
    error AlreadySlashed(bytes32 requestId);
    error NotEscrow(address caller);

    /* OPERATORS */

    /// @notice Registers the caller as an operator. The three roles differ from each other.
    function register(address signer, address transmitter, address withdrawal) external;

    /// @notice Announces a new signer, active after `SIGNER_DELAY`; the present one keeps counting until then.
    function proposeSigner(address signer) external;

    /// @notice Makes an announced signer the operator's signer. Anyone may call when its time has come.
    function activateSigner(address owner) external;

    /// @notice Removes a present, former or announced signer of the caller at once and for ever.
    function revokeSigner(address signer) external;

    function setTransmitter(address transmitter) external;

    /// @notice Announces a new withdrawal address, active after `WITHDRAWAL_DELAY`.
    function proposeWithdrawal(address withdrawal) external;

    function activateWithdrawal(address owner) external;

    /* SETS */

    /// @notice Creates a set whose members each bond `bond` of `bondToken` (the zero address means the native coin).
    /// @param referee The only contract whose proofs may cost a member its bond, for ever; the zero address means none.
    /// Who joins agrees to it; so no agent can bring its own judge.
    function createSet(address admin, address bondToken, uint128 bond, address referee) external returns (uint64 setId);

    /// @notice Joins a set with its bond.
    function join(uint64 setId) external payable;

    /// @notice Names the members of the next epoch, in any order. The first epoch of a set can start at once, a later one
    /// after `EPOCH_DELAY`. A second proposal replaces the first. Callable by the set's admin.
    function proposeEpoch(uint64 setId, uint8 threshold, address[] calldata operators) external;

    /// @notice Starts the proposed epoch with its members' present signers. Anyone may call when its time has come.
    function startEpoch(uint64 setId) external;

    /// @notice Starts a new epoch with the same members and their present signers, after a rotation. Anyone may call; it
    /// is refused while no signer has changed, so that nobody can void the payers' signed requests for sport.
    function refreshEpoch(uint64 setId) external;

    /// @notice Starts the release of the caller's bond, which needs that it is not a member of the present epoch, or that
    /// it has revoked the signer it has there: so no admin can keep an operator in.
    function startUnbonding(uint64 setId) external;

    /// @notice Pays the bond to the withdrawal address after `UNBONDING_DELAY`. Anyone may call.
    function releaseBond(uint64 setId, address owner) external;

    /// @notice Credits what is left of an operator's bond of a set to `beneficiary`, once per request. Callable by the
    /// escrow, which calls it only on a referee's proof.
    function slash(uint64 setId, address signer, bytes32 requestId, address beneficiary)
        external
        returns (uint128 amount);

    /// @notice Pays `account` the slashed bonds that it was credited with. Anyone may call.
    function withdrawFor(address account, address token) external returns (uint256 amount);

    /* VIEWS */

    /// @notice The hash of a set's present epoch (`keccak256(abi.encode(OperatorSet))` of the escrow); zero when none.
    function operatorSetHash(uint64 setId) external view returns (bytes32);

    function isRevoked(address signer) external view returns (bool);

    function operatorOf(address owner) external view returns (Operator memory);

    /// @notice The owner of the operator that signs, or has ever signed, with `signer`.
    function ownerOfSigner(address signer) external view returns (address);

    function epochOf(uint64 setId)
        external
        view
        returns (uint64 epoch, uint8 threshold, address[] memory operators, address[] memory signers);

    function bondOf(uint64 setId, address owner) external view returns (uint128);

    /// @notice Unix time from which an operator's bond can be released; zero while it is not unbonding.
    function releaseAt(uint64 setId, address owner) external view returns (uint64);

    function refereeOf(uint64 setId) external view returns (address);

    /// @notice Slashed bonds in `token` that `account` can withdraw.
    function creditOf(address account, address token) external view returns (uint256);

    /// @notice The escrow that may slash; it deployed this registry.
    function escrow() external view returns (address);

    function sequence() external view returns (uint64);

    /// @notice Seconds between announcing a signer and its activation.
    function SIGNER_DELAY() external view returns (uint64);

    /// @notice Seconds between announcing a withdrawal address and its activation.
    function WITHDRAWAL_DELAY() external view returns (uint64);

    /// @notice Seconds between proposing a set's next epoch and its start; the first epoch has no delay.
    function EPOCH_DELAY() external view returns (uint64);

    /// @notice Seconds between the start of unbonding and the release. The escrow takes no offer with a referee whose
    /// requests could still be convicted after it.
    function UNBONDING_DELAY() external view returns (uint64);

    function SET_MEMBERS_MAX() external view returns (uint256);
}
